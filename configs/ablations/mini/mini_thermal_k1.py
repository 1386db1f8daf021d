# SDPT on mini GLIP and the "thermal" task, k = 1: 768 parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=1))
