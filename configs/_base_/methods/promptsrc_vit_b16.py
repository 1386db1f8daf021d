# PromptSRC on CLIP ViT-B/16: n = 4 prompts at depth 9 in both towers, the average over 20 epochs
# around epoch 15, as from base to new classes. For few-shot learning the authors train for 50
# epochs, for cross-dataset transfer for 20 at depth 3 with mean 6 and std 10.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.PromptSRC", num_tokens=4, depth=9))

train_cfg = dict(max_epochs=20, val_interval=20)
custom_hooks = [dict(type="mmsdpt.GaussianAverageHook", mean=15, std=1, epochs=20)]
