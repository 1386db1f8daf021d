# SDPT on mini GLIP and the "thermal" task, k = 50: 38,400 parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=50))
