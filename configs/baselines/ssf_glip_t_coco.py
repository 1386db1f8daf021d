# SSF, on GLIP-T and COCO: 106,944 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/ssf_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
