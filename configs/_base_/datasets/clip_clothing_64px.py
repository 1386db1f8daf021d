# Photographs of clothing for mini CLIP: 64 pixels, and crops of at least half of the image. In
# crops of a twelfth, which CLIP is tuned with, a model of this size recognises nothing: MuDPT
# learned to give all classes the same score.
_base_ = "clip_clothing.py"

resize = dict(backend="pillow", interpolation="bicubic")
train_pipeline = [
    dict(type="mmsdpt.LoadPillowImage"),
    dict(type="RandomResizedCrop", scale="image_size", crop_ratio_range=(0.5, 1.0), **resize),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(image_size=64, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(image_size=64))
test_dataloader = dict(dataset=dict(image_size=64))
