# SSF, on GLIP-L and COCO: 416,640 parameters.
_base_ = ["../sdpt/glip_l_coco_k10.py", "../_base_/methods/ssf_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
