# Contrastive pre-training of mini CLIP on drawn things and drawn clothes with captions, the third
# of five stages; see mmsdpt/assets/mini_clip/README.md for the run that made the weights in the
# package.
#   for stage in words names "" sharper longer; do
#     python -m torch.distributed.run --nproc_per_node=2 tools/train.py \
#       configs/mini/pretrain_mini_clip${stage:+_$stage}.py --launcher pytorch
#   done                                             # --nproc_per_node=3 for "sharper" and "longer"
_base_ = ["../_base_/models/mini_clip.py", "../_base_/clip_runtime.py"]
custom_imports = dict(imports=[*_base_.custom_imports.imports, "projects.mini_world"])

# Not all patches are shown in most steps: more pictures in the same time.
model = dict(type="mmsdpt.CLIPPretraining", least_patches=0.5)
load_from = "work_dirs/pretrain_mini_clip_names/iter_500.pth"

train_dataloader = dict(
    batch_size=48,  # in each of two processes
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="mmsdpt.SceneCaptionDataset",
        num_samples=1_000_000,
        seed=3,
        max_objects=2,
        clothes=0.75,
        name_alone=0.6,
        pipeline=[dict(type="PackInputs", algorithm_keys=["caption"])],
    ),
)

max_iters = 1100
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters + 1)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=4e-4, betas=(0.9, 0.98), weight_decay=0.1),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            "logit_scale": dict(decay_mult=0.0, lr_mult=5.0),
            "pos_embed": dict(decay_mult=0.0),
            "positional_embedding": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=30),
]
# No hook for class names: captions are not classes.
default_hooks = dict(
    _delete_=True,
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmsdpt.TunerCheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=2
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    trainable_table=dict(type="mmsdpt.TrainableTableHook"),
)
log_processor = dict(by_epoch=False)
