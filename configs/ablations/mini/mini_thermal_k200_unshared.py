# SDPT on mini GLIP and the "thermal" task, k = 200, a set of tokens for each side: 307,200
# parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, share=False))
