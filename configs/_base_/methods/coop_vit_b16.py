# CoOp on CLIP ViT-B/16: a context of n = 16 vectors, drawn at random. With 16 or 8 images per class
# it trains for 200 epochs, in batches of 32; with 4 or 2 CoOp trains for 100, with 1 for 50.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPCoOp", num_tokens=16))

lr = 0.002
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=200, val_interval=200)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
