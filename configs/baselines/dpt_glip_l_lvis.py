# DPT on GLIP-L and LVIS v1: 16 context vectors, 10 prompts per early block and 10 class-aware
# ones per late block, 7,482,624 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/dpt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
