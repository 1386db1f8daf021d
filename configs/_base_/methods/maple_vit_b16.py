# MaPLe on CLIP ViT-B/16: n = 2 text prompts at 9 depths, which make the image prompts.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPMaPLe", num_tokens=2, depth=9))

lr = 0.0035
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=5, val_interval=5)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
