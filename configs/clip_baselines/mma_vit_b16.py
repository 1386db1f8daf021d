# MMA on CLIP ViT-B/16 and images of your own, 16 images per class: 674,560 parameters.
# Put them in one folder per class (docs/classification_data.md) and set data_root.
_base_ = ["../_base_/methods/mma_vit_b16.py", "../_base_/datasets/clip_clothing.py"]

train_dataloader = dict(batch_size=16)
