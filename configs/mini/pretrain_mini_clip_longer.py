# Fifth stage of mini CLIP's pre-training: the fourth once more, for longer and with other pictures.
_base_ = "pretrain_mini_clip_sharper.py"

model = dict(least_patches=0.7)
train_dataloader = dict(dataset=dict(seed=5, clothes=0.8))
load_from = "work_dirs/pretrain_mini_clip_sharper/iter_700.pth"
max_iters = 2000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=20),
]
