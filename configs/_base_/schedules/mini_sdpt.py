# How SDPT trains on the mini detectors.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=25, val_interval=25)
# The rate is the best of 3e-2, 3e-1 and 3 on the val split of "thermal", with mini GLIP.
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=3e-1, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
# Over the whole run, however many epochs it has.
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True)]
