# UPT on mini GLIP and the "thermal" task: n = 4 prompts per encoder from one set, 129,504
# parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.UPT", num_prompts=4))

# The authors' rate (SGD there), and CoOp's decay.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=5e-4))
