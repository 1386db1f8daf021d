# SDPT on mini GLIP and the "thermal" task, k = 200 in the middle third of the fusion layers: 51,200
# parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, layers=[1]))
