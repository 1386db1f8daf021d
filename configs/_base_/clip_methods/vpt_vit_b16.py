# VPT deep on CLIP ViT-B/16: n = 8 prompts at all 12 blocks of the image tower.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPVPT", num_tokens=8, depth=12))

lr, max_epochs = 0.0025, 5
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="ConstantLR", factor=1e-5 / lr, begin=0, end=2),
    dict(type="CosineAnnealingLR", T_max=max_epochs, begin=1),
]

# As in the comparison, whatever template the dataset has.
default_hooks = dict(classes=dict(template="a photo of a {}."))
