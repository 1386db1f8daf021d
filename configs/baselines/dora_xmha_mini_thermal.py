# DoRA, r = 16, on the fusion layers of mini GLIP and the "thermal" task.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/dora_xmha_glip.py"]

model = dict(tuner=_base_.tuner)

# The rate of LoRA, the best of three there; not searched for DoRA.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
