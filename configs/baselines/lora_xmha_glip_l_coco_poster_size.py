# LoRA on GLIP-L and COCO at the poster's size: 1,597,440 parameters for its 1.58 M: r = 13.
_base_ = "lora_xmha_glip_l_coco.py"

model = dict(tuner=dict(rank=13))
