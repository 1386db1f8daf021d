# MaPLe for GLIP: n = 2 prompts at 9 depths.
tuner = dict(_delete_=True, type="mmsdpt.MaPLe", num_tokens=2)
# The decay of the authors' code; their rate, 3.5e-3, is for SGD, this one is ours.
optimizer = dict(lr=1e-3, weight_decay=5e-4)
