# APoLLo on GLIP-T and COCO: n = 2 prompts at 9 depths and an adapter of width 64, 2,935,808
# parameters.
_base_ = "../sdpt/glip_t_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.Apollo", num_tokens=2, bottleneck=64))

# Rate and decay as for MaPLe.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=5e-4))
