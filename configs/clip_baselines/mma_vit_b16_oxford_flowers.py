# MMA on CLIP ViT-B/16 and Oxford Flowers, 16 images per class: 674,560 parameters.
_base_ = ["../_base_/methods/mma_vit_b16.py", "../_base_/datasets/clip_oxford_flowers.py"]

train_dataloader = dict(batch_size=16)
