# SDPT on mini GLIP and the "thermal" task, k = 200, tokens from a normal distribution: 153,600
# parameters. Of the variance of U(-1, 1).
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, init="normal", init_scale=0.577))
