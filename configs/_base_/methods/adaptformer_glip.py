# AdaptFormer for GLIP: bottlenecks of 64 beside every image FFN.
tuner = dict(_delete_=True, type="mmsdpt.AdaptFormer", bottleneck=64)
# No weight decay, as in the paper.
optimizer = dict(lr=1e-3, weight_decay=0.0)
