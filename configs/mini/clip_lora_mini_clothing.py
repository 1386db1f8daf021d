# CLIP-LoRA on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# r = 2, 23,040 parameters. The authors train far longer, for 8,000 steps.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.CLIPLoRA"))
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=2e-4, weight_decay=0.01))
train_dataloader = dict(batch_size=32)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        T_max="max_epochs",
        eta_min=1e-6,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(classes=dict(template="a photo of a {}."))
