# UPT on mini GLIP and the "thermal" task: n = 4 prompts per encoder from one set, 129,504
# parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.UPT", num_prompts=4))

# A rate for so short a run, not searched.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=5e-4))
