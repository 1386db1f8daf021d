# CoOp for GLIP: M = 16 context vectors.
tuner = dict(_delete_=True, type="mmsdpt.CoOp", num_tokens=16)
# Rate and decay of the paper.
optimizer = dict(lr=2e-3, weight_decay=5e-4)
