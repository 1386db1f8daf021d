# First stage of mini GLIP pre-training: mostly phrases of one attribute and easy negatives, so
# that words find their pixels before they are combined.
_base_ = "pretrain_mini_glip.py"

train_dataloader = dict(
    dataset=dict(single_attribute=0.9, hard_negatives=0.1, related=0.0, max_phrases=8, seed=1)
)
max_iters = 700
load_from = None
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
]
