# MaPLe on GLIP-T and COCO: n = 2 prompts at 9 depths, 2,671,488 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/maple_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
