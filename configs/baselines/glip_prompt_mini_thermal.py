# GLIP's prompt tuning on mini GLIP and the "thermal" task: an offset per caption position, 32,768
# parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.GLIPPrompt"))

# Rate and decay of GLIP's released code.
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=0.25))
