# SDPT on mini GLIP and the "thermal" task, k = 200, learnable projections to the image side only:
# 202,944 parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, projection="learnable", sides="image"))
