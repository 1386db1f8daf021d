# PromptSRC as its authors train it on ImageNet for other data sets: depth 3, and an average around
# epoch 6 of 20.
_base_ = "../../../../configs/clip_baselines/promptsrc_vit_b16.py"

model = dict(tuner=dict(depth=3))
custom_hooks = [dict(type="mmsdpt.GaussianAverageHook", mean=6, std=10, epochs=20)]
