# BitFit for GLIP, in the fusion layers only: the bias terms of their Linears and norms.
tuner = dict(_delete_=True, type="mmsdpt.BitFitXMHA")
# As BitFit.
optimizer = dict(lr=1e-3, weight_decay=0.0)
