# BitFit on GLIP-L and LVIS v1: 482,149 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/bitfit_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
