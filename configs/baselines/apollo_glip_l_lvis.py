# APoLLo on GLIP-L and LVIS v1: n = 2 prompts at 9 depths and an adapter of width 64, 5,544,896
# parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/apollo_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
