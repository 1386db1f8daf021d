# Pre-training of mini GLIP on procedural scenes with phrases, the last of three stages; see
# mmsdpt/assets/mini_glip/README.md for the run that made the weights in the package.
#   for stage in pretrain_mini_glip_words pretrain_mini_glip_phrases pretrain_mini_glip; do
#     python -m torch.distributed.run --nproc_per_node=3 tools/train.py configs/mini/$stage.py \
#       --launcher pytorch
#   done
_base_ = ["../_base_/models/mini_glip.py", "../_base_/mini_world_runtime.py"]

train_dataloader = dict(
    batch_size=8,  # in each of three processes
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmsdpt.SceneGroundingDataset",
        num_samples=1_000_000,
        image_size=160,
        max_objects=5,
        # As many as a task has classes: positions after the longest caption stay untrained.
        max_phrases=26,
        single_attribute=0.05,
        seed=11,
        combinations="seen",
        pipeline=[
            dict(type="GTBoxSubOne_GLIP"),
            dict(type="RandomFlip_GLIP", prob=0.5),
            dict(
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
            ),
        ],
    ),
)

model = dict(
    bbox_head=dict(
        phrase_loss_weight=2.0,
        init_cfg=dict(type="mmsdpt.IdentityTowerInit"),
    )
)

load_from = "work_dirs/pretrain_mini_glip_phrases/iter_1400.pth"
max_iters = 1900
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=8e-4, betas=(0.9, 0.98), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            "relative_position_bias_table": dict(decay_mult=0.0),
            "embeddings": dict(decay_mult=0.0),
            "dyconvs": dict(lr_mult=0.25),
            "offset": dict(lr_mult=0.1),
        },
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type="LinearLR", end_factor=0.005, by_epoch=False, begin=500),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=100), logger=dict(interval=20))
log_processor = dict(by_epoch=False)
