# VPT deep on CLIP ViT-B/16: n = 8 prompts at all 12 blocks of the image tower.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPVPT", num_tokens=8, depth=12))

train_cfg = dict(max_epochs=5, val_interval=5)

# As in the comparison, whatever template the dataset has.
default_hooks = dict(classes=dict(template="a photo of a {}."))
