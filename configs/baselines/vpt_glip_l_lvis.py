# VPT-deep on GLIP-L and LVIS v1: p = 10 prompts in every image block, 180,480 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/vpt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
