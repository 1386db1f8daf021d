# UPT on GLIP-L and Aquarium: n = 4 prompts per encoder from one set, 5,767,488 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.UPT", num_prompts=4))

# The authors' rate (SGD there), and CoOp's decay.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=5e-4))
