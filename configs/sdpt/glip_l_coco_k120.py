_base_ = "glip_l_coco_k10.py"

model = dict(tuner=dict(num_tokens=120))
