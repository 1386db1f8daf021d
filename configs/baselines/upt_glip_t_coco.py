# UPT on GLIP-T and COCO: n = 4 prompts per encoder from one set, 4,660,128 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/upt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
