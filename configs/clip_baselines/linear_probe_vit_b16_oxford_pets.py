# Linear probe on CLIP ViT-B/16 and Oxford Pets, 16 images per class: 18,981 parameters.
_base_ = [
    "../_base_/methods/linear_probe_vit_b16.py",
    "../_base_/datasets/clip_oxford_pets.py",
]

model = dict(tuner=dict(num_classes=37))
train_dataloader = dict(batch_size=32)
