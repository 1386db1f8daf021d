# LoRA, r = 16, on GLIP-L and COCO: 2,039,808 parameters.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.LoRA", rank=16))

# Rate and decay of the paper's GPT-2 runs.
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.01))
