# APoLLo on GLIP-L and Aquarium at the size in the SDPT poster (3.18 M): prompts at 5 depths and an
# adapter of width 16, 3,188,576 parameters.
_base_ = "apollo_glip_l_aquarium.py"

model = dict(tuner=dict(depth=5, bottleneck=16))
