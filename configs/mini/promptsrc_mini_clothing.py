# PromptSRC on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# n = 4 prompts at depth 6, 7,680 parameters.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.PromptSRC"))
custom_hooks = [dict(type="mmsdpt.GaussianAverageHook", mean=15, std=1, epochs=20)]
