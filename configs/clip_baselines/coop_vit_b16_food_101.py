# CoOp on CLIP ViT-B/16 and Food-101, 16 images per class: 8,192 parameters.
_base_ = ["../_base_/methods/coop_vit_b16.py", "../_base_/datasets/clip_food_101.py"]

train_dataloader = dict(batch_size=32)
