# PMF for GLIP: 4 query, 4 query-context and 4 fusion-context prompts per encoder in the last two
# layers.
tuner = dict(_delete_=True, type="mmsdpt.PMF", num_layers=2)
# Rate and decay are ours.
optimizer = dict(lr=1e-3, weight_decay=1e-4)
