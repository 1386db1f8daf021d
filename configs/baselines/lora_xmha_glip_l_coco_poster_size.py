# LoRA on the fusion layers of GLIP-L and COCO at the size in the SDPT poster (1.58 M): r = 13,
# 1,597,440 parameters.
_base_ = "lora_xmha_glip_l_coco.py"

model = dict(tuner=dict(rank=13))
