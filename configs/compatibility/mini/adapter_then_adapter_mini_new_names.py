# Mini GLIP with the Adapter of "thermal", frozen, and a new Adapter, which trains on "new_names":
# 134,656 parameters.
_base_ = "adapter_mini_new_names.py"

model = dict(tuners=dict(new=dict(type="mmsdpt.Adapter", bottleneck=64)))

# As Adapter alone.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
