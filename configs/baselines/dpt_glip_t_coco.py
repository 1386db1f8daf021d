# DPT on GLIP-T and COCO: 16 context vectors, 10 prompts per early block and 10 class-aware ones per
# late block, 2,521,728 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/dpt_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
