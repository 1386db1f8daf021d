# TCP on CLIP ViT-B/16: n = 4 vectors, and prompts made from each class before the ninth block. eps
# of Adam sets the size of its steps; the authors' value is kept in float32, too.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.TCP", num_tokens=4))

lr = 0.002
optim_wrapper = dict(optimizer=dict(_delete_=True, type="Adam", lr=lr, weight_decay=5e-4, eps=1e-3))
train_cfg = dict(max_epochs=50, val_interval=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
