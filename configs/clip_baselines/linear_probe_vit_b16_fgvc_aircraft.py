# Linear probe on CLIP ViT-B/16 and FGVC Aircraft, 16 images per class: 51,300 parameters.
_base_ = [
    "../_base_/methods/linear_probe_vit_b16.py",
    "../_base_/datasets/clip_fgvc_aircraft.py",
]

model = dict(tuner=dict(num_classes=100))
train_dataloader = dict(batch_size=32)
