# LoRA, r = 16, on the fusion layers on GLIP-T and COCO: 1,474,560 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.LoRAXMHA", rank=16))

# As LoRA.
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.01))
