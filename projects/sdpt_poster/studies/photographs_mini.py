# All methods on mini GLIP and photographs, ten shots and all images. The configs of the data say
# how to convert them.
_base_ = "parts/tasks.py"

study = dict(
    name="photographs_mini",
    title="All methods on photographs",
    protocol="comparison",
    methods=_base_.poster_methods,
    data=[
        dict(name=name, config=f"configs/mini/sdpt_mini_{name}.py", epochs=12)
        for name in ("packages", "raccoon", "bccd", "aquarium")
    ],
    forgetting=["seen", "held_out"],
    shots=[10, 0],
    seeds=[3, 30, 300],
    selection=dict(monitor="coco/bbox_mAP", interval=3),
)
