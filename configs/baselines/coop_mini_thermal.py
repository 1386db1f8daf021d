# CoOp on mini GLIP and the "thermal" task: M = 16 context vectors, 2,048 parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.CoOp", num_tokens=16))

# Rate and decay of the paper.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=5e-4))
