# SDPT on mini GLIP and Raccoon, photographs: 150 to train on, 29 to choose the best epoch, 17 to
# test.
#   python tools/dataset_converters/voc2coco.py RACCOON --out data/raccoon --split 150,29,17
_base_ = [
    "../_base_/models/mini_glip.py",
    "../_base_/datasets/converted.py",
    "../_base_/default_runtime.py",
]
load_from = "mmsdpt://mini_glip"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=1)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=3e-1, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
# Over the whole run, however many epochs it has.
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP", rule="greater"))
