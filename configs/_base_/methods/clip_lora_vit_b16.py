# CLIP-LoRA on CLIP ViT-B/16: rank 2 on query, key and value of all blocks. The authors train for
# 500 iterations per shot in batches of 32, whatever the data: 8,000 with 16 shots, which are
# 16,000 / C epochs with C classes; here C = 10. Studies count them for their own data and shots.
_base_ = ["../models/clip_vit_b16.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.CLIPLoRA", rank=2))

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=2e-4, betas=(0.9, 0.999), weight_decay=0.01),
)
train_cfg = dict(by_epoch=True, max_epochs=1600, val_interval=1600)
param_scheduler = [
    # Per iteration, without warm-up.
    dict(
        type="CosineAnnealingLR",
        T_max="max_epochs",
        eta_min=1e-6,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

# As in the authors' code, whatever template the dataset has.
default_hooks = dict(classes=dict(template="a photo of a {}."))
