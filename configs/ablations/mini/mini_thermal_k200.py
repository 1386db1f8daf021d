# SDPT on mini GLIP and the "thermal" task, k = 200: 153,600 parameters. "Standard" tokens: one set,
# both sides in every step.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200))
