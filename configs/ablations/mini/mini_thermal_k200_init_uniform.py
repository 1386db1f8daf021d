# SDPT on mini GLIP and the "thermal" task, k = 200, tokens from U(-1, 1), the default: 153,600
# parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, init="uniform", init_scale=1.0))
