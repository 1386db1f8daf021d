# SDPT on GLIP-L and Aquarium, k = 200, tokens from a normal distribution: 3,276,800 parameters. Of
# the variance of U(-1, 1). Not in the poster.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, init="normal", init_scale=0.577))
