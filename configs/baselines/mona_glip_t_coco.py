# Mona, bottlenecks of 64, on GLIP-T and COCO: 1,408,128 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/mona_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
