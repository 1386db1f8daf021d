# SSF on mini GLIP and the "thermal" task.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/ssf_glip.py"]

model = dict(tuner=_base_.tuner)

# Not searched.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
