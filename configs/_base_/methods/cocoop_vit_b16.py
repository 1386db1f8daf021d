# CoCoOp on CLIP ViT-B/16: n = 4 vectors from "a photo of a", and a network that shifts them for
# each image; one image in a batch.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CoCoOp", num_tokens=4))

lr = 0.002
optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
