# Linear probing on GLIP-L and COCO: 198,919 parameters.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.LinearProbing"))

# Rate and decay of GLIP's own fine-tuning.
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
