# BitFit on the fusion layers on GLIP-L and COCO: 81,920 parameters.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.BitFitXMHA"))

# As BitFit.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
