# Linear probe on CLIP ViT-B/16 and DTD, 16 images per class: 24,111 parameters.
_base_ = ["../_base_/methods/linear_probe_vit_b16.py", "../_base_/datasets/clip_dtd.py"]

model = dict(tuner=dict(num_classes=47))
train_dataloader = dict(batch_size=32)
