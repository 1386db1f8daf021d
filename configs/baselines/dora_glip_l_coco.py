# DoRA, r = 16, on GLIP-L and COCO: 2,121,600 parameters.
_base_ = ["../sdpt/glip_l_coco_k10.py", "../_base_/methods/dora_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
