# Tip-Adapter-F on CLIP ViT-B/16 and images of your own, 16 images per class: 81,920 parameters.
# Put them in one folder per class (docs/classification_data.md) and set data_root.
_base_ = ["../_base_/methods/tip_adapter_f_vit_b16.py", "../_base_/datasets/clip_clothing.py"]

train_pipeline = _base_.train_pipeline
train_pipeline[1].crop_ratio_range = (0.5, 1.0)
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
