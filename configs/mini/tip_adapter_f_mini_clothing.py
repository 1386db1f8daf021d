# Tip-Adapter-F on mini CLIP and photographs of clothing in data/clothing, 16 images per class:
# 20,480 parameters. Tip-Adapter is the same with model.tuner.frozen=True, tested without a file.
_base_ = [
    "../_base_/models/mini_clip.py",
    "../_base_/datasets/clip_clothing_64px.py",
    "../_base_/schedules/clip_sgd.py",
    "../_base_/clip_runtime.py",
]
load_from = "mmsdpt://mini_clip"

model = dict(tuner=dict(type="mmsdpt.TipAdapter", num_classes=10))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=0.001, eps=1e-4, weight_decay=0.01)
)
train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=20, val_interval=20)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        T_max="max_epochs",
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [dict(type="mmsdpt.TipAdapterHook")]
