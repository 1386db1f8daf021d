# APoLLo on GLIP-L and COCO: n = 2 prompts at 9 depths and an adapter of width 64, 5,544,896
# parameters.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.Apollo", num_tokens=2, bottleneck=64))

# Rate and decay as for MaPLe.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=5e-4))
