# PMF on GLIP-L and COCO at the SDPT poster's size (1.53 M): hidden width 160 in the MLPs, 1,535,104
# parameters.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.PMF", num_layers=2, hidden_width=160))

# Rate and decay are ours.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4))
