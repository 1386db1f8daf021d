# CoCoOp on CLIP ViT-B/16 and Caltech-101, 16 images per class: 35,360 parameters.
_base_ = ["../_base_/methods/cocoop_vit_b16.py", "../_base_/datasets/clip_caltech_101.py"]

train_dataloader = dict(batch_size=1)
