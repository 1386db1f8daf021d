# Zero-shot CLIP on CLIP ViT-B/16 and FGVC Aircraft: nothing trains.
_base_ = ["../_base_/methods/zero_shot_vit_b16.py", "../_base_/datasets/clip_fgvc_aircraft.py"]

train_dataloader = None
