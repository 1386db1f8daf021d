# SDPT on GLIP-L and Raccoon of ODinW13, all images. docs/detection_data.md has the other names.
_base_ = "glip_l_own_data_k10.py"

benchmark = "odinw13/Raccoon"
