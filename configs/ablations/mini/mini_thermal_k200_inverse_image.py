# SDPT on mini GLIP and the "thermal" task, k = 200, inverse projections to the image side only:
# 153,600 parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, sides="image"))
