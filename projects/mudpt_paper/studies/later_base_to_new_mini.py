# The same on mini CLIP, photographs of clothing and two sets of drawings, with 8 images of each
# class. The drawings: python tools/draw_class_folders.py data
_base_ = "later_base_to_new.py"

study = dict(
    name="later_base_to_new_mini",
    hosts=["mini_clip"],
    data=["clip_clothing_64px", "clip_drawn_clothes_64px", "clip_drawn_things_64px"],
    shots=[8],
)
