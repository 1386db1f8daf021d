# First stage of mini CLIP's pre-training: all kinds of captions, few patches shown. Colours and
# textures find their words.
_base_ = "pretrain_mini_clip.py"

model = dict(least_patches=0.35)
train_dataloader = dict(dataset=dict(seed=0, clothes=0.7, name_alone=0.3))
load_from = None
max_iters = 400
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=60),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=60, end=1700),
]
