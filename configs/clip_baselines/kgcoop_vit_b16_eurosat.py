# KgCoOp on CLIP ViT-B/16 and EuroSAT, 16 images per class: 2,048 parameters.
_base_ = ["../_base_/methods/kgcoop_vit_b16.py", "../_base_/datasets/clip_eurosat.py"]

train_dataloader = dict(batch_size=32)
