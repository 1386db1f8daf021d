# SDPT on GLIP-L and Aquarium, k = 200 in every other fusion layer: 1,638,400 parameters. Not in the
# poster.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, layers=[0, 2, 4, 6]))
