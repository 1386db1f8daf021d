# Mona, bottlenecks of 64, on GLIP-L and Aquarium: 5,267,712 parameters.
_base_ = ["../sdpt/glip_l_aquarium_k10.py", "../_base_/methods/mona_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
