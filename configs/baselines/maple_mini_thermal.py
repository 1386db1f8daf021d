# MaPLe on mini GLIP and the "thermal" task: n = 2 prompts at 4 depths, 38,176 parameters. Its
# text encoder has 4 layers.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/maple_glip.py"]

model = dict(tuner=_base_.tuner)

# The best of the rates 3e-3, 3e-2 and 3e-1 on the val split.
optim_wrapper = dict(optimizer=dict(lr=3e-2, weight_decay=5e-4))
