# Full fine-tuning on mini GLIP and the "thermal" task.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.FullFineTuning"))

# The best of the rates 1e-5, 1e-4 and 1e-3 on the val split.
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.0))
