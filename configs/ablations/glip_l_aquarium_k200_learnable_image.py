# SDPT on GLIP-L and Aquarium, k = 200, learnable projections to the image side only: 7,473,152
# parameters. Poster: 13.82 M, which no projection with tokens gives: a Linear 2048 to 256 in each
# of eight layers is counted here.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, projection="learnable", sides="image"))
