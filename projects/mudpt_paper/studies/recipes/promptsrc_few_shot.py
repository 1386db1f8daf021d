# PromptSRC as its authors train it on few images of all classes: 50 epochs, and the average of
# ImageNet and five other data sets (the other five have mean 45, std 5).
_base_ = "../../../../configs/clip_baselines/promptsrc_vit_b16.py"

train_cfg = dict(max_epochs=50, val_interval=50)
custom_hooks = [dict(type="mmsdpt.GaussianAverageHook", mean=30, std=30, epochs=50)]
