# AdaptFormer on GLIP-T and COCO: bottlenecks of 64 beside every image FFN, 570,432 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.AdaptFormer", bottleneck=64))

# No weight decay, as in the paper.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
