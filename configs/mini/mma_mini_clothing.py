# MMA on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# adapters beside all 6 blocks, 131,520 parameters.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.MMA"))
optim_wrapper = dict(optimizer=dict(lr=0.0015))
train_dataloader = dict(batch_size=16)
param_scheduler = [dict(type="CosineAnnealingLR", T_max="max_epochs")]
default_hooks = dict(classes=dict(template="a photo of a {}."))
