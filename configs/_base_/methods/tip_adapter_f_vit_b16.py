# Tip-Adapter-F on CLIP ViT-B/16: a cache of the training images, whose keys train. Tip-Adapter,
# which trains nothing, is the same with a frozen slot, tested without a tuner file:
#   tools/test.py CONFIG --cfg-options model.tuner.frozen=True
# The authors keep the epoch that is best on the test images; here the last one counts.
_base_ = ["../models/clip_vit_b16.py", "../clip_runtime.py"]

model = dict(tuner=dict(type="mmsdpt.TipAdapter", num_classes=10, shots=16, alpha=1.17, beta=1.0))

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=0.001, eps=1e-4, weight_decay=0.01),
)
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=20)
param_scheduler = [
    # Per iteration, without warm-up.
    dict(
        type="CosineAnnealingLR",
        T_max="max_epochs",
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [dict(type="mmsdpt.TipAdapterHook", passes=10, most=(7, 3))]
