# SDPT on GLIP-L and Aquarium, k = 200, the text's tokens hidden from the image queries as in the
# authors' released code: 3,276,800 parameters. Not in the poster.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200, mask_text_tokens=True))
