# GLIP's prompt tuning on GLIP-L and LVIS v1: an offset per caption position, 196,608 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/glip_prompt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
