# How both detectors are tuned on COCO. MMDetection's files have the same keys, and MMEngine merges
# no key of two bases: a config that inherits both takes these by name, ``_base_.tuning_hooks``.
_base_ = "runner.py"

tuning_hooks = dict(
    checkpoint=dict(
        _delete_=True,
        type="mmsdpt.TunerCheckpointHook",
        interval=1,
        max_keep_ckpts=2,
        save_best="coco/bbox_mAP",
        rule="greater",
    ),
    trainable_table=dict(type="mmsdpt.TrainableTableHook"),
    class_names=dict(type="mmsdpt.ClassNamesHook"),
)
# Workers start again in every epoch, and draw new seeds.
tuning_loader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=False,
    worker_init_fn=dict(type="mmsdpt.seed_worker"),
)
tuning_optim = dict(
    _delete_=True,
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW"),  # a method sets its own rate and decay
)
tuning_schedule = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    # After epochs 8 and 11 of 12.
    dict(
        type="MultiStepLR",
        by_epoch=True,
        milestones=["8/12 max_epochs", "11/12 max_epochs"],
        gamma=0.1,
    ),
]
