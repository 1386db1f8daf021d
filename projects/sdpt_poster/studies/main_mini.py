# The poster's main table on mini GLIP: all methods, tasks that differ in what is new, ten shots.
_base_ = "parts/tasks.py"

study = dict(
    name="main_mini",
    title="All methods on mini GLIP",
    protocol="comparison",
    methods=_base_.poster_methods,
    data=["infrared", "aerial", "clutter", "new_names", "new_adjectives", "new_shapes"],
    forgetting=["seen", "held_out"],
    shots=[10],
    seeds=[3, 30, 300],
    selection=dict(monitor="coco/bbox_mAP", interval=9),
    published="projects.sdpt_poster.published",
)
