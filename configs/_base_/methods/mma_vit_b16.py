# MMA on CLIP ViT-B/16: adapters of rank 32 beside the last 8 blocks of both towers. For transfer to
# other data sets and domain generalisation the paper has the last 4 and one epoch.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.MMA", depth=8, rank=32))

lr = 0.0015
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=5, val_interval=5)
# Without warm-up: the first epoch has the full rate.
param_scheduler = [dict(type="CosineAnnealingLR", T_max="max_epochs")]

# As in the authors' code, whatever template the dataset has.
default_hooks = dict(classes=dict(template="a photo of a {}."))
