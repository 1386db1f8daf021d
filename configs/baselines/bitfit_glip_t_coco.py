# BitFit on GLIP-T and COCO: 285,293 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/bitfit_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
