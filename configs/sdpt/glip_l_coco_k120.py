# SDPT on GLIP-L and COCO, k = 120: 1,966,080 parameters.
_base_ = "glip_l_coco_k10.py"

model = dict(tuner=dict(num_tokens=120))
