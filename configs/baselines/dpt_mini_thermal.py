# DPT on mini GLIP and the "thermal" task: 16 context vectors, 10 prompts per early block and 10
# class-aware ones per late block, 89,728 parameters.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/dpt_glip.py"]

model = dict(tuner=_base_.tuner)

# The best of the rates 3e-3, 3e-2 and 3e-1 on the val split.
optim_wrapper = dict(optimizer=dict(lr=3e-2, weight_decay=5e-4))
