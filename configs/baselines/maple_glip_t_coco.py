# MaPLe on GLIP-T and COCO: n = 2 prompts at 9 depths, 2,671,488 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.MaPLe", num_tokens=2))

# The decay of the authors' code; their rate, 3.5e-3, is for SGD, this one is ours.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=5e-4))
