# Tip-Adapter-F on CLIP ViT-B/16 and Caltech-101, 16 images per class: 819,200 parameters.
_base_ = ["../_base_/methods/tip_adapter_f_vit_b16.py", "../_base_/datasets/clip_caltech_101.py"]

train_pipeline = _base_.train_pipeline
train_pipeline[1].crop_ratio_range = (0.5, 1.0)
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))

# The authors' for this data set.
model = dict(tuner=dict(num_classes=100, alpha=3.0))
custom_hooks = [dict(type="mmsdpt.TipAdapterHook", passes=10, most=(12, 5))]
