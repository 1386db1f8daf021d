# SDPT on mini Grounding DINO and the "thermal" task, ten shots: k = 10 tokens in each of three
# fusion layers, 7,680 parameters.
_base_ = [
    "../_base_/models/mini_grounding_dino.py",
    "../_base_/datasets/scene_task.py",
    "../_base_/mini_world_runtime.py",
]
load_from = "mmsdpt://mini_grounding_dino"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# Boxes end where they end, not one pixel earlier as GLIP's.
train_pipeline = [
    dict(type="LoadImageFromFile", imdecode_backend="pillow"),
    dict(type="LoadAnnotations", with_bbox=True),
    _base_.resize,
    dict(type="RandomFlip", prob=0.5),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs", meta_keys=(*_base_.meta_keys, "flip", "flip_direction")),
]
train_dataloader = dict(batch_size=4, dataset=dict(dataset=dict(pipeline=train_pipeline)))
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=25, val_interval=25)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=3e-1, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True)]
