# SDPT on GLIP-L and Packages of ODinW13, all images. The caption is only the class name; GLIP's
# caption prompt ("there is a package on the porch") is benchmark = "odinw13/Packages".
_base_ = "glip_l_own_data_k10.py"

benchmark = dict(name="odinw13/Packages", captions=False)
