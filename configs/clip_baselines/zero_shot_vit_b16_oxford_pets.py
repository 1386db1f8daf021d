# Zero-shot CLIP on CLIP ViT-B/16 and Oxford Pets: nothing trains.
_base_ = ["../_base_/methods/zero_shot_vit_b16.py", "../_base_/datasets/clip_oxford_pets.py"]

train_dataloader = None
