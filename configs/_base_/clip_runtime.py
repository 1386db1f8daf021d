# The runner, hooks and log of the CLIP configs.
_base_ = "runtime.py"

default_scope = "mmpretrain"
default_hooks = dict(
    checkpoint=dict(type="mmsdpt.TunerCheckpointHook", interval=1, max_keep_ckpts=1),
    classes=dict(type="mmsdpt.SetClassesHook"),
)
visualizer = dict(type="UniversalVisualizer", vis_backends=_base_.vis_backends)
