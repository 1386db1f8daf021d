# Second stage of mini GLIP's pre-training: all kinds of phrases, negatives of medium difficulty.
_base_ = "pretrain_mini_glip.py"

train_dataloader = dict(
    dataset=dict(single_attribute=0.3, hard_negatives=0.4, related=0.3, max_phrases=10, seed=7)
)
load_from = "work_dirs/pretrain_mini_glip_words/iter_700.pth"
max_iters = 1400
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"dyconvs": dict(lr_mult=0.2)}))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
]
