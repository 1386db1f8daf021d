# MaPLe on mini GLIP and the "thermal" task: n = 2 prompts at 4 depths, 38,176 parameters. Its text
# encoder has no more layers.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.MaPLe", num_tokens=2))

# The decay of the authors' code; their rate, 3.5e-3, is for SGD, this one is ours.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=5e-4))
