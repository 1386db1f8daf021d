# SDPT on GLIP-L and Aquarium, k = 1: 16,384 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=1))
