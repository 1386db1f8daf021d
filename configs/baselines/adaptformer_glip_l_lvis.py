# AdaptFormer on GLIP-L and LVIS v1: bottlenecks of 64 beside every image FFN, 2,329,728
# parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/adaptformer_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
