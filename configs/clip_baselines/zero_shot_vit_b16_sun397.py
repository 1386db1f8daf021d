# Zero-shot CLIP on CLIP ViT-B/16 and SUN397: nothing trains.
_base_ = ["../_base_/methods/zero_shot_vit_b16.py", "../_base_/datasets/clip_sun397.py"]

train_dataloader = None
