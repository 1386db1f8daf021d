# BitFit on GLIP-T and COCO: 285,293 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.BitFit"))

# The paper searches rates from 1e-4 to 1e-3; no decay.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
