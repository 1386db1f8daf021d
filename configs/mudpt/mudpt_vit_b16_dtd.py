# MuDPT on CLIP ViT-B/16 and DTD, 16 images per class: 1,204,736 parameters.
_base_ = ["../_base_/methods/mudpt_vit_b16.py", "../_base_/datasets/clip_dtd.py"]
