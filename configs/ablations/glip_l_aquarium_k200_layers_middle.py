# SDPT on GLIP-L and Aquarium, k = 200 in the middle third of the fusion layers: 819,200 parameters.
# Not in the poster.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, layers=[3, 4]))
