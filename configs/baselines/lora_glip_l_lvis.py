# LoRA, r = 16, on GLIP-L and LVIS v1: 2,039,808 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/lora_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
