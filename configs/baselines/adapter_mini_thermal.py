# Adapter (Houlsby) on mini GLIP and the "thermal" task: two bottlenecks of 64 in every text layer,
# and its norms, 134,656 parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.Adapter", bottleneck=64))

# The middle of the rates that the paper searches (3e-5, 3e-4, 3e-3); no decay.
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.0))
