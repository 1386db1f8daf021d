# SDPT on mini GLIP and the "thermal" task, k = 200 in every other fusion layer: 102,400 parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, layers=[0, 2]))
