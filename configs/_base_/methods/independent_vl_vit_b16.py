# Independent V-L prompting (MPT) on CLIP ViT-B/16: n = 2 prompts at all 12 blocks of both towers.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.IndependentVL", num_tokens=2, depth=12))

train_cfg = dict(max_epochs=5, val_interval=5)
