# SSF for GLIP: scales and shifts in the image encoder.
tuner = dict(_delete_=True, type="mmsdpt.SSF")
# The paper's rates are from 1e-3 to 1e-2. Its library takes vectors out of the decay, and these all
# are.
optimizer = dict(lr=1e-3, weight_decay=0.0)
