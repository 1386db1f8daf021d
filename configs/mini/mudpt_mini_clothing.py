# MuDPT on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# n = 2 prompts at depth 6, 78,080 parameters.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.MuDPT"))
