# Adapter (Houlsby) on GLIP-T and COCO: two bottlenecks of 64 in every text layer, and its norms,
# 2,416,128 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.Adapter", bottleneck=64))

# The middle of the rates that the paper searches (3e-5, 3e-4, 3e-3); no decay.
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.0))
