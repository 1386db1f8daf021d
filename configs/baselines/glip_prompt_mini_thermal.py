# GLIP's prompt tuning on mini GLIP and the "thermal" task: an offset per caption position, 32,768
# parameters.
_base_ = ["../mini/sdpt_mini_thermal.py", "../_base_/methods/glip_prompt_glip.py"]

model = dict(tuner=_base_.tuner)

# The best of the rates 2e-2, 2e-1 and 2 on the val split.
optim_wrapper = dict(optimizer=dict(lr=2.0, weight_decay=0.25))
