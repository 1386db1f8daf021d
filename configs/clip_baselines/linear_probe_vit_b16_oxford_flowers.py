# Linear probe on CLIP ViT-B/16 and Oxford Flowers, 16 images per class: 52,326 parameters.
_base_ = [
    "../_base_/methods/linear_probe_vit_b16.py",
    "../_base_/datasets/clip_oxford_flowers.py",
]

model = dict(tuner=dict(num_classes=102))
train_dataloader = dict(batch_size=32)
