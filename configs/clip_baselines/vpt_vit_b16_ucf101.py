# VPT deep on CLIP ViT-B/16 and UCF101, 16 images per class: 73,728 parameters.
_base_ = ["../_base_/methods/vpt_vit_b16.py", "../_base_/datasets/clip_ucf101.py"]
