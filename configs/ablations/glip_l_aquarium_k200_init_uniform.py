# SDPT on GLIP-L and Aquarium, k = 200, tokens from U(-1, 1), the default: 3,276,800 parameters. Not
# in the poster.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, init="uniform", init_scale=1.0))
