# Drawn things out of focus for mini CLIP, six combinations of shape, colour and texture that its
# pre-training never showed or named:
#   python tools/draw_class_folders.py data
_base_ = "clip_clothing_64px.py"

data_root = "data/drawn_things/"
folders = dict(data_root=data_root)
train_dataloader = dict(dataset=folders)
val_dataloader = dict(dataset=folders)
test_dataloader = dict(dataset=folders)
