# KgCoOp on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# n = 4, 512 parameters.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.KgCoOp"))
lr = 0.002
optim_wrapper = dict(optimizer=dict(lr=lr))
train_dataloader = dict(batch_size=32)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
