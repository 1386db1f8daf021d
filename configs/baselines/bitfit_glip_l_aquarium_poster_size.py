# BitFit on GLIP-L and Aquarium at the size in the SDPT poster (0.42 M): all parts but the fused
# BERT layers, 414,565 parameters.
_base_ = "bitfit_glip_l_aquarium.py"

model = dict(tuner=dict(groups=["image", "neck", "text", "fusion", "dyconv", "outputs"]))
