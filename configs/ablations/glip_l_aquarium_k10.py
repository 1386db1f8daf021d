# SDPT on GLIP-L and Aquarium, k = 10: 163,840 parameters. Poster: 0.16 M, in the comparison on
# COCO.
_base_ = "../sdpt/glip_l_aquarium_k10.py"
