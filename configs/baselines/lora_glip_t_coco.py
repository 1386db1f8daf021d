# LoRA, r = 16, on GLIP-T and COCO: 1,167,360 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.LoRA", rank=16))

# Rate and decay of the paper's GPT-2 runs.
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.01))
