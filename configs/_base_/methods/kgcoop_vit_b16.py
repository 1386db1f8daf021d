# KgCoOp on CLIP ViT-B/16: n = 4 vectors from "a photo of a", whose texts stay near those of the
# data set's template. The authors train in batches of 128 from base to new classes, and advise 32
# for few-shot learning, which the configs have.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.KgCoOp", num_tokens=4))

lr = 0.002
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=100, val_interval=100)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
