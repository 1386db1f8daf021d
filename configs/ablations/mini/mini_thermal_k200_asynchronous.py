# SDPT on mini GLIP and the "thermal" task, k = 200, the sides train in alternating epochs: 153,600
# parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200))

custom_hooks = [dict(type="mmsdpt.AlternatingPhasesHook", by_epoch=True)]
