# Full fine-tuning on GLIP-L and Aquarium: 430,401,824 parameters.
_base_ = ["../sdpt/glip_l_aquarium_k10.py", "../_base_/methods/full_fine_tuning_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer, paramwise_cfg=_base_.paramwise_cfg)
