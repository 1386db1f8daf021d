# SDPT on GLIP-L and COCO: k = 10 prototype tokens in each of eight fusion layers, 163,840
# parameters.
_base_ = "../_base_/models/glip_l.py"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# COCO once per epoch: MMDetection's fine-tuning repeats it. Workers draw their seeds anew in every
# epoch.
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=False,
    worker_init_fn=dict(type="mmsdpt.seed_worker"),
    dataset=dict(times=1),
)

# Tokens are drawn from U(-1, 1): their rate is far above that of weights. No decay: it would pull
# them to the middle of the joint space.
train_cfg = dict(max_epochs=12)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
