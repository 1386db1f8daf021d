# MMRL as its authors train it from base to new classes: 10 epochs in batches of 4.
_base_ = "../../../../configs/clip_baselines/mmrl_vit_b16.py"

train_cfg = dict(max_epochs=10, val_interval=10)
train_dataloader = dict(batch_size=4)
