# CLIP-Adapter on CLIP ViT-B/16 and Stanford Cars, 16 images per class: 131,072 parameters.
_base_ = ["../_base_/methods/clip_adapter_vit_b16.py", "../_base_/datasets/clip_stanford_cars.py"]

train_dataloader = dict(batch_size=32)
