# CoOp on GLIP-L and COCO: M = 16 context vectors, 12,288 parameters. The SDPT poster has 0.52 M,
# and no config here: that would be 677 vectors, and BERT has 256 positions after a full caption.
_base_ = ["../sdpt/glip_l_coco_k10.py", "../_base_/methods/coop_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
