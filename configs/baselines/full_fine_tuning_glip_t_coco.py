# Full fine-tuning on GLIP-T and COCO: 231,759,662 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.FullFineTuning"))

# Rate and decay of MMDetection's fine-tuning configs.
optim_wrapper = dict(optimizer=dict(lr=2e-5, weight_decay=0.05))
