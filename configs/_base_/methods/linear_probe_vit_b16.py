# Linear probe on CLIP ViT-B/16, trained by SGD in batches of 32. Its rate and epochs are ours: the
# paper fits a logistic regression, as tools/experiments.py does.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPLinearProbe", num_classes=10))

lr = 0.01
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=50, val_interval=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
