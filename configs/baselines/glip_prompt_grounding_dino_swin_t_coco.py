# GLIP's prompt tuning on Grounding DINO-T and COCO: 65,536 parameters.
_base_ = ["../sdpt/grounding_dino_swin_t_coco_k10.py", "../_base_/methods/glip_prompt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
