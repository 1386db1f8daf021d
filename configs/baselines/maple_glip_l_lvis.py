# MaPLe on GLIP-L and LVIS v1: n = 2 prompts at 9 depths, 5,181,504 parameters. The SDPT poster
# has 2.96 M, and no config here: 5 depths have 3,108,288, 4 have 2,516,160.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/maple_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
