# Linear probe on CLIP ViT-B/16 and Stanford Cars, 16 images per class: 100,548 parameters.
_base_ = [
    "../_base_/methods/linear_probe_vit_b16.py",
    "../_base_/datasets/clip_stanford_cars.py",
]

model = dict(tuner=dict(num_classes=196))
train_dataloader = dict(batch_size=32)
