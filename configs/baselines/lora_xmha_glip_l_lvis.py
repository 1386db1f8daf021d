# LoRA, r = 16, on the fusion layers of GLIP-L and LVIS v1: 1,966,080 parameters.
_base_ = ["../sdpt/glip_l_lvis_k10.py", "../_base_/methods/lora_xmha_glip.py"]

model = dict(tuner=_base_.tuner)
optim_wrapper = dict(optimizer=_base_.optimizer)
