# BitFit on GLIP-L and Aquarium at the poster's size: 414,565 parameters for its 0.42
# M: all parts but the fused BERT layers.
_base_ = "bitfit_glip_l_aquarium.py"

model = dict(tuner=dict(groups=["image", "neck", "text", "fusion", "dyconv", "outputs"]))
