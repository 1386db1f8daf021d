# Zero-shot CLIP on CLIP ViT-B/16 and DTD: nothing trains.
_base_ = ["../_base_/methods/zero_shot_vit_b16.py", "../_base_/datasets/clip_dtd.py"]

train_dataloader = None
