# First stage of mini GLIP's pre-training: mostly phrases of one attribute and easy negatives, so
# that words find their pixels before they are combined.
_base_ = "pretrain_mini_glip.py"

train_dataloader = dict(
    dataset=dict(single_attribute=0.6, hard_negatives=0.1, related=0.0, max_phrases=8, seed=1)
)
load_from = None
max_iters = 700
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
# The head's convolutions have no residual: at the full rate they forget what the backbone sees.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"dyconvs": dict(lr_mult=0.1)}))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
]
