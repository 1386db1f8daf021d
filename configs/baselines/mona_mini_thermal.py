# Mona, bottlenecks of 64, on mini GLIP and the "thermal" task, 235,904 parameters.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/mona_glip.py"]

model = dict(tuner=_base_.tuner)

# Not searched.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
