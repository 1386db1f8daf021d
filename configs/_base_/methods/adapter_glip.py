# Adapter (Houlsby) for GLIP: two bottlenecks of 64 in every text layer, and its norms.
tuner = dict(_delete_=True, type="mmsdpt.Adapter", bottleneck=64)
# The middle of the rates that the paper searches (3e-5, 3e-4, 3e-3); no decay.
optimizer = dict(lr=3e-4, weight_decay=0.0)
