# GLIP's prompt tuning on mini GLIP and the "thermal" task: an offset per caption position, 32,768
# parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.GLIPPrompt"))

# The best of two rates in runs of 9 epochs, on the val split.
optim_wrapper = dict(optimizer=dict(lr=2e-1, weight_decay=0.25))
