# Zero-shot CLIP on CLIP ViT-B/16 and images of your own: nothing trains.
# Put them in one folder per class (docs/classification_data.md) and set data_root.
_base_ = ["../_base_/methods/zero_shot_vit_b16.py", "../_base_/datasets/clip_clothing.py"]

train_dataloader = None
