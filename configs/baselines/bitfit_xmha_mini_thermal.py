# BitFit on the fusion layers on mini GLIP and the "thermal" task.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.BitFitXMHA"))

# A rate for a model this small and a run this short.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
