# Pre-training of mini Grounding DINO on procedural scenes with phrases, in one process; what came
# out is in mmsdpt/assets/mini_grounding_dino/README.md.
_base_ = ["../_base_/models/mini_grounding_dino.py", "../_base_/mini_world_pretraining.py"]

train_dataloader = dict(
    dataset=dict(
        max_objects=4,
        max_phrases=6,
        single_attribute=0.6,
        hard_negatives=0.1,
        related=0.0,
        seed=1,
        pipeline=[dict(type="RandomFlip", prob=0.5), _base_.packed],
    )
)
# Swin and BERT are mini GLIP's and bear a tenth of the rate; the rest starts at random.
model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="mmsdpt://mini_glip")),
    language_model=dict(
        init_cfg=dict(type="Pretrained", checkpoint="mmsdpt://mini_glip", prefix="language_model.")
    ),
    # Fusion that starts near zero, as in Grounding DINO, would need many steps to be seen.
    encoder=dict(fusion_layer_cfg=dict(init_values=0.3)),
)
max_iters = 4000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(
    optimizer=dict(lr=4e-4),
    paramwise_cfg=dict(
        custom_keys={
            "backbone": dict(lr_mult=0.1),
            "language_model": dict(lr_mult=0.1),
        }
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=2800,
        end=max_iters,
        T_max=max_iters - 2800,
        eta_min_ratio=0.01,
    ),
]
