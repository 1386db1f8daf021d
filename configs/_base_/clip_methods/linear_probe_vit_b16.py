# Linear probe on CLIP ViT-B/16, trained by SGD in batches of 32. Its rate and epochs are ours: the
# paper fits a logistic regression, as tools/clip_protocol.py does.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPLinearProbe", num_classes=10))

lr, max_epochs = 0.01, 50
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="ConstantLR", factor=1e-5 / lr, begin=0, end=2),
    dict(type="CosineAnnealingLR", T_max=max_epochs, begin=1),
]
