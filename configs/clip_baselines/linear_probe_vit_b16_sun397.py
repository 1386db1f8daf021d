# Linear probe on CLIP ViT-B/16 and SUN397, 16 images per class: 203,661 parameters.
_base_ = ["../_base_/methods/linear_probe_vit_b16.py", "../_base_/datasets/clip_sun397.py"]

model = dict(tuner=dict(num_classes=397))
train_dataloader = dict(batch_size=32)
