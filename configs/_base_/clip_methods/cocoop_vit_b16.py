# CoCoOp on CLIP ViT-B/16: n = 4 vectors from "a photo of a", and a network that shifts them for
# each image; one image in a batch.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CoCoOp", num_tokens=4))

lr, max_epochs = 0.002, 10
optim_wrapper = dict(optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="ConstantLR", factor=1e-5 / lr, begin=0, end=2),
    dict(type="CosineAnnealingLR", T_max=max_epochs, begin=1),
]
