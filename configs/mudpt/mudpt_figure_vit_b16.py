# MuDPT of the paper's figure on CLIP ViT-B/16 and images of your own, 16 images per class:
# 11,053,568 parameters.
# They are in one folder per class, see docs/classification_data.md; set data_root.
_base_ = ["../_base_/methods/mudpt_figure_vit_b16.py", "../_base_/datasets/clip_clothing.py"]
