# Mini GLIP with the VPT of "thermal", frozen, and a new VPT, which trains on "new_names": 4,480
# parameters.
_base_ = "vpt_mini_new_names.py"

model = dict(tuners=dict(new=dict(type="mmsdpt.VPT", num_tokens=10)))

# As VPT alone.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
