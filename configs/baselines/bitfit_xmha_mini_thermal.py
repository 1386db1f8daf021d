# BitFit on the fusion layers of mini GLIP and the "thermal" task.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/bitfit_xmha_glip.py"]

model = dict(tuner=_base_.tuner)

# The best of the rates 1e-3, 1e-2 and 1e-1 on the val split.
optim_wrapper = dict(optimizer=dict(lr=1e-1, weight_decay=0.0))
