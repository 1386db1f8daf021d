# VPT-deep on GLIP-T and COCO: p = 10 prompts in every image block, 44,160 parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.VPT", num_tokens=10))

# Prompts are drawn from about U(-0.1, 0.1). No decay: the norm behind them hides their length.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
