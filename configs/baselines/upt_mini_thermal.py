# UPT on mini GLIP and the "thermal" task: n = 4 prompts per encoder from one set, 129,504
# parameters.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/upt_glip.py"]

model = dict(tuner=_base_.tuner)

# 1e-3 and 1e-1 are as good on the val split.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=5e-4))
