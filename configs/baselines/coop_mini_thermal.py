# CoOp on mini GLIP and the "thermal" task: M = 16 context vectors, 2,048 parameters.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/coop_glip.py"]

model = dict(tuner=_base_.tuner)

# The best of the rates 1e-3, 1e-2 and 1e-1 on the val split.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=5e-4))
