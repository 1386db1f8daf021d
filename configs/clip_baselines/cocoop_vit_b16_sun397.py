# CoCoOp on CLIP ViT-B/16 and SUN397, 16 images per class: 35,360 parameters.
_base_ = ["../_base_/methods/cocoop_vit_b16.py", "../_base_/datasets/clip_sun397.py"]

train_dataloader = dict(batch_size=1)
