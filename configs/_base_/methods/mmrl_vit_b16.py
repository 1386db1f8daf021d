# MMRL on CLIP ViT-B/16: K = 5 tokens of width 512, in the last 7 blocks of both towers. Few-shot
# learning: 50 epochs in batches of 32 (ImageNet: 5); from base to new classes the authors train for
# 10 in batches of 4.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.MMRL", num_tokens=5, token_width=512, depth=7))

lr = 0.001
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=lr, weight_decay=5e-4))
train_cfg = dict(max_epochs=50, val_interval=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].factor = 1e-5 / lr
