# SDPT on GLIP-L and Aquarium, k = 100: 1,638,400 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=100))
