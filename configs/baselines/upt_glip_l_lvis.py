# UPT on GLIP-L and LVIS v1: n = 4 prompts per encoder from one set, 5,767,488 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/upt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
