# CLIP-Adapter on CLIP ViT-B/16: a bottleneck on the image feature, ratio 0.2. The authors released
# it for ResNet-50 and without a config, to be trained "as CoOp": the recipe is CoOp's.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPAdapter", ratio=0.2))

lr = 0.002
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=200, val_interval=200)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
