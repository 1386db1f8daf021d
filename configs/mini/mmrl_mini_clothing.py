# MMRL on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# K = 5 tokens in the last 5 blocks, 847,936 parameters.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.MMRL", depth=5))
lr = 0.001
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=lr, weight_decay=5e-4))
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
