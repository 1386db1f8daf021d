# SDPT on GLIP-L and Aquarium, k = 200: 3,276,800 parameters. Poster: 3.28 M, "standard" tokens and
# "dual" inverse projections: one set of tokens, both sides in every step.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200))
