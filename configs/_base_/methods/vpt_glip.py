# VPT-deep for GLIP: p = 10 prompts in every image block.
tuner = dict(_delete_=True, type="mmsdpt.VPT", num_tokens=10)
# Prompts are drawn from about U(-0.1, 0.1). No decay: the norm after them hides their length.
optimizer = dict(lr=1e-3, weight_decay=0.0)
