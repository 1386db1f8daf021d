# BitFit for GLIP: the bias terms of all layers.
tuner = dict(_delete_=True, type="mmsdpt.BitFit")
# The paper searches rates from 1e-4 to 1e-3; no decay.
optimizer = dict(lr=1e-3, weight_decay=0.0)
