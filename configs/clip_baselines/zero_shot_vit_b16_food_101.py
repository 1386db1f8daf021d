# Zero-shot CLIP on CLIP ViT-B/16 and Food-101: nothing trains.
_base_ = ["../_base_/methods/zero_shot_vit_b16.py", "../_base_/datasets/clip_food_101.py"]

train_dataloader = None
