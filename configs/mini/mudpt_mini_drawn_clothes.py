# MuDPT on mini CLIP and drawn clothes in grey, 16 images per class. The pictures:
#   python tools/draw_class_folders.py data
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_drawn_clothes_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.MuDPT"))
