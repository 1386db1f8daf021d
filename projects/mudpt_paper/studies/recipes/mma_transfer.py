# MMA as its paper trains it on ImageNet for other data sets: the last 4 blocks, one epoch. The
# authors have no config for it; the batch is theirs for ImageNet.
_base_ = "../../../../configs/clip_baselines/mma_vit_b16.py"

model = dict(tuner=dict(depth=4))
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader = dict(batch_size=128)
