# Pre-training of mini GLIP on procedural scenes with phrases, the last of three stages; see
# mmsdpt/assets/mini_glip/README.md for the run that made the weights in the package.
#   for stage in pretrain_mini_glip_words pretrain_mini_glip_phrases pretrain_mini_glip; do
#     python -m torch.distributed.run --nproc_per_node=3 tools/train.py configs/mini/$stage.py \
#       --launcher pytorch
#   done
_base_ = ["../_base_/models/mini_glip.py", "../_base_/mini_world_pretraining.py"]

train_dataloader = dict(
    dataset=dict(
        max_objects=5,
        # As many as a task has classes: positions after the longest caption stay untrained.
        max_phrases=26,
        single_attribute=0.05,
        seed=11,
        pipeline=[
            dict(type="GTBoxSubOne_GLIP"),
            dict(type="RandomFlip_GLIP", prob=0.5),
            _base_.packed,
        ],
    )
)

model = dict(
    bbox_head=dict(
        phrase_loss_weight=2.0,
        init_cfg=dict(type="mmsdpt.IdentityTowerInit"),
    )
)

load_from = "work_dirs/pretrain_mini_glip_phrases/iter_1400.pth"
max_iters = 1900
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(
    optimizer=dict(lr=8e-4, betas=(0.9, 0.98)),
    paramwise_cfg=dict(
        custom_keys={
            "relative_position_bias_table": dict(decay_mult=0.0),
            "embeddings": dict(decay_mult=0.0),
            "dyconvs": dict(lr_mult=0.25),
            "offset": dict(lr_mult=0.1),
        }
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type="LinearLR", end_factor=0.005, by_epoch=False, begin=500),
]
