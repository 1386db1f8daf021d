# SDPT's number of tokens, the fusion layers that have them, and their first values, on mini GLIP.
_base_ = "parts/tasks.py"

methods = dict(sdpt=dict(label="SDPT"))
study = dict(
    name="tokens_mini",
    title="Tokens of SDPT",
    protocol="comparison",
    methods=["sdpt"],
    data=["new_names", "infrared", "new_shapes"],
    shots=[10],
    seeds=[3, 30, 300],
    vary=dict(
        k=dict(num_tokens=[1, 5, 10, 50, 120, 300]),
        depth=[dict(layers=each) for each in (None, [0], [1], [2], [0, 2])],
        init=[
            dict(init="uniform", init_scale=1.0),
            dict(init="uniform", init_scale=0.1),
            dict(init="normal", init_scale=1.0),
            dict(init="zeros"),
        ],
    ),
    selection=dict(monitor="coco/bbox_mAP", interval=9),
)
