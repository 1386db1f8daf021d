# Tip-Adapter-F on CLIP ViT-B/16 and ImageNet, 16 images per class: 8,192,000 parameters.
_base_ = ["../_base_/methods/tip_adapter_f_vit_b16.py", "../_base_/datasets/clip_imagenet.py"]

train_pipeline = _base_.train_pipeline
train_pipeline[1].crop_ratio_range = (0.5, 1.0)
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))

# The authors' for this data set.
model = dict(tuner=dict(num_classes=1000, alpha=1.17))
custom_hooks = [dict(type="mmsdpt.TipAdapterHook", passes=10, most=(7, 3))]
default_hooks = dict(
    classes=dict(
        template=[
            "itap of a {}.",
            "a bad photo of the {}.",
            "a origami {}.",
            "a photo of the large {}.",
            "a {} in a video game.",
            "art of the {}.",
            "a photo of the small {}.",
        ]
    )
)
