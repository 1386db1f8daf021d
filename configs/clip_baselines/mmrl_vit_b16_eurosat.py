# MMRL on CLIP ViT-B/16 and EuroSAT, 16 images per class: 18,762,496 parameters.
_base_ = ["../_base_/methods/mmrl_vit_b16.py", "../_base_/datasets/clip_eurosat.py"]

train_pipeline = _base_.train_pipeline
train_pipeline[1].crop_ratio_range = (0.5, 1.0)
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
model = dict(tuner=dict(weight=0.01, token_width=2048))  # the authors' for this data set
