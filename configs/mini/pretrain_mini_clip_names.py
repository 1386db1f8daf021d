# Second stage of mini CLIP's pre-training: nearly all captions are only a name, and more patches
# are shown, so that names find their outlines.
_base_ = "pretrain_mini_clip.py"

model = dict(least_patches=0.55)
train_dataloader = dict(dataset=dict(seed=1, max_objects=1, name_alone=0.85))
load_from = "work_dirs/pretrain_mini_clip_words/iter_400.pth"
max_iters = 500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
]
