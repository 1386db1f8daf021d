# SDPT on GLIP-L and Aquarium, k = 5: 81,920 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=5))
