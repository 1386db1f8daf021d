# Full fine-tuning on GLIP-T and COCO: 231,759,662 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/full_fine_tuning_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer, paramwise_cfg=_base_.paramwise_cfg)
