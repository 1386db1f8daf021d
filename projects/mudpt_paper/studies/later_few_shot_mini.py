# The same on mini CLIP, photographs of clothing and two sets of drawings, with 2 images of each
# class. The drawings: python tools/draw_class_folders.py data
_base_ = "later_few_shot.py"

study = dict(
    name="later_few_shot_mini",
    hosts=["mini_clip"],
    data=["clip_clothing_64px", "clip_drawn_clothes_64px", "clip_drawn_things_64px"],
    shots=[2],
)
