# LoRA for GLIP, r = 16, on the fusion layers alone.
tuner = dict(_delete_=True, type="mmsdpt.LoRAXMHA", rank=16)
# As LoRA.
optimizer = dict(lr=2e-4, weight_decay=0.01)
