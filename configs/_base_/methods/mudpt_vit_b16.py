# MuDPT on CLIP ViT-B/16, the authors' code: n = 2 prompts at 9 depths of both towers, linear
# injections both ways.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.MuDPT", num_tokens=2, depth=9))
