# Drawn clothes in grey for mini CLIP, six kinds that are not among those of clip_clothing_64px.py:
#   python tools/draw_class_folders.py data
_base_ = "clip_clothing_64px.py"

data_root = "data/drawn_clothes/"
folders = dict(data_root=data_root)
train_dataloader = dict(dataset=folders)
val_dataloader = dict(dataset=folders)
test_dataloader = dict(dataset=folders)
