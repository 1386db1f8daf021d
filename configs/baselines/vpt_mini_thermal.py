# VPT-deep on mini GLIP and the "thermal" task: p = 10 prompts in every image block, 4,480
# parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.VPT", num_tokens=10))

# Prompts are drawn from about U(-0.1, 0.1). No decay: the norm behind them hides their length.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
