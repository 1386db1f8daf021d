# DoRA for GLIP, r = 16.
tuner = dict(_delete_=True, type="mmsdpt.DoRA", rank=16)
# Rate and decay of LoRA; the paper's are those of its LoRA runs, or half the rate.
optimizer = dict(lr=2e-4, weight_decay=0.01)
