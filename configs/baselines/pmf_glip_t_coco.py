# PMF on GLIP-T and COCO: 4 query, 4 query-context and 4 fusion-context prompts per encoder in the
# last two layers, 2,400,768 parameters.
_base_ = ["../sdpt/glip_t_coco_k10.py", "../_base_/methods/pmf_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
