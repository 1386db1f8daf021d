# SDPT on GLIP-L and Aquarium, k = 200, a set of tokens for each side: 6,553,600 parameters. Poster:
# 6.56 M.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, share=False))
