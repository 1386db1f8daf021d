# SDPT on GLIP-L and Aquarium, k = 200 in the first third of the fusion layers: 1,228,800
# parameters. Not in the poster.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, layers=[0, 1, 2]))
