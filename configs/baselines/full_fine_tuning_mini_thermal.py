# Full fine-tuning on mini GLIP and the "thermal" task.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/full_fine_tuning_glip.py"]

model = dict(tuner=_base_.tuner)

# The best of the rates 1e-5, 1e-4 and 1e-3 on the val split.
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.0))
