# MuDPT on CLIP ViT-B/16 and Caltech-101, 16 images per class: 1,204,736 parameters.
_base_ = ["../_base_/methods/mudpt_vit_b16.py", "../_base_/datasets/clip_caltech_101.py"]
