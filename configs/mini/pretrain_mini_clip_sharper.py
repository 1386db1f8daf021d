# Fourth stage of mini CLIP's pre-training: nearly all patches are shown, mostly clothes, mostly
# under a name alone; in three processes.
_base_ = "pretrain_mini_clip.py"

model = dict(least_patches=0.8)
train_dataloader = dict(
    batch_size=40, dataset=dict(seed=4, max_objects=1, clothes=0.85, name_alone=0.75)
)
load_from = "work_dirs/pretrain_mini_clip/iter_1100.pth"
max_iters = 700
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=20),
]
