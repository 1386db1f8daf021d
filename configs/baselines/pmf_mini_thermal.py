# PMF on mini GLIP and the "thermal" task: 4 query, 4 query-context and 4 fusion-context prompts per
# encoder in the last two layers, 72,448 parameters.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/pmf_glip.py"]

model = dict(tuner=_base_.tuner)

# The best of the rates 1e-3, 1e-2 and 1e-1 on the val split.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4))
