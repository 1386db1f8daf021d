# SDPT on GLIP-L and Aquarium, k = 200, tokens that start at zero: 3,276,800 parameters. Not in the
# poster.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, init="zeros"))
