# MMRL as its authors train it on ImageNet for other data sets: lambda 0.2, one epoch at the full
# rate. On other data, variants of ImageNet included, they predict without the tokens, and so do
# all tests here; on ImageNet itself they use them.
_base_ = "../../../../configs/clip_baselines/mmrl_vit_b16.py"

model = dict(tuner=dict(weight=0.2, use_tokens=False))
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = [dict(type="CosineAnnealingLR", T_max="max_epochs")]
