# PromptSRC on CLIP ViT-B/16 and Oxford Pets, 16 images per class: 46,080 parameters.
_base_ = ["../_base_/methods/promptsrc_vit_b16.py", "../_base_/datasets/clip_oxford_pets.py"]

# The authors' few-shot recipe: 50 epochs, and their average for this data set.
train_cfg = dict(max_epochs=50, val_interval=50)
custom_hooks = [dict(type="mmsdpt.GaussianAverageHook", mean=30, std=30, epochs=50)]
