# Zero-shot CLIP on CLIP ViT-B/16 and Oxford Flowers: nothing trains.
_base_ = [
    "../_base_/methods/zero_shot_vit_b16.py",
    "../_base_/datasets/clip_oxford_flowers.py",
]

train_dataloader = None
