# CoOp on GLIP-T and COCO: M = 16 context vectors, 12,288 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.CoOp", num_tokens=16))

# Rate and decay of the paper.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=5e-4))
