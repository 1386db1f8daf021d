# The same on mini CLIP: from photographs of clothing to two sets of drawings, of other clothes and
# of other things. The drawings: python tools/draw_class_folders.py data
_base_ = "cross_dataset.py"

study = dict(
    name="cross_dataset_mini",
    hosts=["mini_clip"],
    source="clip_clothing_64px",
    data=["clip_drawn_clothes_64px", "clip_drawn_things_64px"],
)
