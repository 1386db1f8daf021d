# MaPLe on CLIP ViT-B/16 and FGVC Aircraft, 16 images per class: 3,555,072 parameters.
_base_ = ["../_base_/methods/maple_vit_b16.py", "../_base_/datasets/clip_fgvc_aircraft.py"]
