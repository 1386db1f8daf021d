# Full fine-tuning on Grounding DINO-T and COCO: 172,932,630 parameters.
_base_ = ["../sdpt/grounding_dino_swin_t_coco_k10.py", "../_base_/methods/full_fine_tuning_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer, paramwise_cfg=_base_.paramwise_cfg)
