# BitFit on the fusion layers of GLIP-L and LVIS v1: 81,920 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/bitfit_xmha_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
