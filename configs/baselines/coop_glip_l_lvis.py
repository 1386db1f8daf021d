# CoOp on GLIP-L and LVIS v1: M = 16 context vectors, 12,288 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/coop_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
