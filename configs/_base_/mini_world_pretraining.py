# What the pre-training of mini GLIP and mini Grounding DINO on drawn scenes with phrases shares.
_base_ = "mini_world_runtime.py"

packed = dict(
    type="PackDetInputs",
    meta_keys=(
        "img_id",
        "img_path",
        "ori_shape",
        "img_shape",
        "scale_factor",
        "flip",
        "flip_direction",
        "text",
        "custom_entities",
    ),
)
train_dataloader = dict(
    batch_size=8,  # in each process
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmsdpt.SceneGroundingDataset",
        num_samples=1_000_000,
        image_size=160,
        combinations="seen",
    ),
)
train_cfg = dict(type="IterBasedTrainLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=100), logger=dict(interval=20))
log_processor = dict(by_epoch=False)
