# AdaptFormer on GLIP-T and COCO: bottlenecks of 64 beside every image FFN, 570,432 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/adaptformer_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
