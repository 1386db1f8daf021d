# AdaptFormer on GLIP-L and Aquarium: bottlenecks of 64 beside every image FFN, 2,329,728
# parameters.
_base_ = ["../sdpt/glip_l_aquarium_k10.py", "../_base_/methods/adaptformer_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
