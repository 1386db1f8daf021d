# Adapter (Houlsby) on GLIP-L and LVIS v1: two bottlenecks of 64 in every text layer, and its
# norms, 2,416,128 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/adapter_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
