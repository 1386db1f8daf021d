# SDPT on GLIP-L and Raccoon of ODinW13, few-shot; shots and seed as in
# glip_l_own_data_k10_few_shot.py.
_base_ = "glip_l_odinw_raccoon_k10.py"

train_dataloader = dict(dataset=dict(shots=10, copies=1, seed=3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].patience = 3
custom_hooks = _base_.custom_hooks
custom_hooks[0].patience = 8
