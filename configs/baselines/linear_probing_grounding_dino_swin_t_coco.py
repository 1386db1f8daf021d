# Linear probing on Grounding DINO-T and COCO: 928,284 parameters.
_base_ = ["../sdpt/grounding_dino_swin_t_coco_k10.py", "../_base_/methods/linear_probing_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
