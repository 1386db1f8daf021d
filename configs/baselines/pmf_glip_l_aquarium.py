# PMF on GLIP-L and Aquarium: 4 query, 4 query-context and 4 fusion-context prompts per encoder in
# the last two layers, 5,370,624 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.PMF", num_layers=2))

# Rate and decay are ours.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4))
