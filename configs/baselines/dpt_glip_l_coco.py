# DPT on GLIP-L and COCO: 16 context vectors, 10 prompts per early block and 10 class-aware ones
# per late block, 7,482,624 parameters. The SDPT poster has 80.71 M, and no config here: it would
# take 4,900 prompts per early block.
_base_ = ["../sdpt/glip_l_coco_k10.py", "../_base_/methods/dpt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
