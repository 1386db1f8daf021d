# Linear probing on GLIP-L and LVIS v1: 198,919 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/linear_probing_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
