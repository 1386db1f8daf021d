# PMF on GLIP-L and LVIS v1: 4 query, 4 query-context and 4 fusion-context prompts per encoder in
# the last two layers, 5,370,624 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/pmf_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
