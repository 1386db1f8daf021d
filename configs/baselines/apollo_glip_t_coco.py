# APoLLo on GLIP-T and COCO: n = 2 prompts at 9 depths and an adapter of width 64, 2,935,808
# parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/apollo_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
