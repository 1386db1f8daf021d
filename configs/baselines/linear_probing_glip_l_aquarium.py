# Linear probing on GLIP-L and Aquarium of ODinW13: 198,919 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.LinearProbing"))

# Rate and decay of GLIP's own fine-tuning.
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
