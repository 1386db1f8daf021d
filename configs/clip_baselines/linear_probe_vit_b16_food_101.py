# Linear probe on CLIP ViT-B/16 and Food-101, 16 images per class: 51,813 parameters.
_base_ = ["../_base_/methods/linear_probe_vit_b16.py", "../_base_/datasets/clip_food_101.py"]

model = dict(tuner=dict(num_classes=101))
train_dataloader = dict(batch_size=32)
