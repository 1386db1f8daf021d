# Linear probe on CLIP ViT-B/16 and ImageNet, 16 images per class: 513,000 parameters.
_base_ = ["../_base_/methods/linear_probe_vit_b16.py", "../_base_/datasets/clip_imagenet.py"]

model = dict(tuner=dict(num_classes=1000))
train_dataloader = dict(batch_size=32)
