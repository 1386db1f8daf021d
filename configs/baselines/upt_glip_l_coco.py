# UPT on GLIP-L and COCO: n = 4 prompts per encoder from one set, 5,767,488 parameters. The SDPT
# poster has 2.75 M, and no config here: the transformer and the Linears of this width have more.
_base_ = ["../sdpt/glip_l_coco_k10.py", "../_base_/methods/upt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
