# Independent V-L prompting on CLIP ViT-B/16 and UCF101, 16 images per class: 30,720 parameters.
_base_ = ["../_base_/methods/independent_vl_vit_b16.py", "../_base_/datasets/clip_ucf101.py"]
