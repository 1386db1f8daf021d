# CLIP-Adapter on CLIP ViT-B/16 and Caltech-101, 16 images per class: 131,072 parameters.
_base_ = ["../_base_/methods/clip_adapter_vit_b16.py", "../_base_/datasets/clip_caltech_101.py"]

train_dataloader = dict(batch_size=32)
