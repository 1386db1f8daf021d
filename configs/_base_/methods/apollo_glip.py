# APoLLo for GLIP: n = 2 prompts at 9 depths and an adapter of width 64.
tuner = dict(_delete_=True, type="mmsdpt.Apollo", num_tokens=2, bottleneck=64)
# Rate and decay as for MaPLe.
optimizer = dict(lr=1e-3, weight_decay=5e-4)
