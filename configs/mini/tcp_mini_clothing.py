# TCP on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# class prompts before the last block, 21,536 parameters.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.TCP"))
lr = 0.002
optim_wrapper = dict(optimizer=dict(_delete_=True, type="Adam", lr=lr, weight_decay=5e-4, eps=1e-3))
train_dataloader = dict(batch_size=32)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
