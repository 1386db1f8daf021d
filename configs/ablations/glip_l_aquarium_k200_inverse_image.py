# SDPT on GLIP-L and Aquarium, k = 200, inverse projections to the image side only: 3,276,800
# parameters. Poster: 3.28 M.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, sides="image"))
