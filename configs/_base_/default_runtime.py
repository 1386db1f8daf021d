# The runner, hooks and log of the GLIP configs.
_base_ = "runtime.py"

default_scope = "mmdet"
default_hooks = dict(
    checkpoint=dict(type="mmsdpt.TunerCheckpointHook", interval=1, max_keep_ckpts=2),
    class_names=dict(type="mmsdpt.ClassNamesHook"),
)
visualizer = dict(type="DetLocalVisualizer", vis_backends=_base_.vis_backends, name="visualizer")
load_from = None
