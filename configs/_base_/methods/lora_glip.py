# LoRA for GLIP, r = 16.
tuner = dict(_delete_=True, type="mmsdpt.LoRA", rank=16)
# Rate and decay of the paper's GPT-2 runs.
optimizer = dict(lr=2e-4, weight_decay=0.01)
