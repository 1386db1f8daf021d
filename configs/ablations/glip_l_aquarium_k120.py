# SDPT on GLIP-L and Aquarium, k = 120: 1,966,080 parameters. Poster: 1.97 M, in the comparison on
# COCO.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=120))
