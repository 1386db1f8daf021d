# The tuner file of projects/model_zoo for mini CLIP: MuDPT on drawn clothes in grey.
# The pictures: python tools/draw_class_folders.py data
_base_ = "../../../configs/_base_/studies/clip.py"

study = dict(
    name="model_zoo_clip",
    title="A tuner file for drawn clothes",
    protocol="few_shot",
    hosts=["mini_clip"],
    methods=["mudpt"],
    data=["clip_drawn_clothes_64px"],
    shots=[16],
    seeds=[1],
)
