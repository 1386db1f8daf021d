# The runner, hooks and log of the CLIP configs.
custom_imports = dict(
    imports=[
        "mmsdpt.hosts",
        "mmsdpt.tuners",
        "mmsdpt.datasets",
        "mmsdpt.engine",
        "mmsdpt.evaluation",
    ],
    allow_failed_imports=False,
)
default_scope = "mmpretrain"
runner_type = "mmsdpt.TunerRunner"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="mmsdpt.TunerCheckpointHook", interval=1, max_keep_ckpts=1),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    trainable_table=dict(type="mmsdpt.TrainableTableHook"),
    classes=dict(type="mmsdpt.SetClassesHook"),
    visualization=dict(type="mmsdpt.VisualizationHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="UniversalVisualizer", vis_backends=vis_backends)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"
resume = False
randomness = dict(seed=0)
