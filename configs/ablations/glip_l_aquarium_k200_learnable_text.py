# SDPT on GLIP-L and Aquarium, k = 200, learnable projections to the text side only: 15,865,856
# parameters. Poster: 3.58 M, which no projection with tokens gives: a Linear 2048 to 768 in each of
# eight layers is counted here.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, projection="learnable", sides="text"))
