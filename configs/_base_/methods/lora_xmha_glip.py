# LoRA for GLIP, r = 16, in the fusion layers only.
tuner = dict(_delete_=True, type="mmsdpt.LoRAXMHA", rank=16)
# As LoRA.
optimizer = dict(lr=2e-4, weight_decay=0.01)
