# SDPT on GLIP-L and Aquarium, k = 300: 4,915,200 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=300))
