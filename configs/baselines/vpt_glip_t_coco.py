# VPT-deep on GLIP-T and COCO: p = 10 prompts in every image block, 44,160 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/vpt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
