# SDPT on GLIP-L and ten images of each class of your own data, after GLIP's protocol on ODinW: 1,
# 3, 5 or 10 shots, seeds 3, 30 and 300. For 3 shots of another draw:
# --cfg-options train_dataloader.dataset.shots=3 train_dataloader.dataset.copies=4
#               train_dataloader.dataset.seed=30
# An epoch holds the images 8, 4, 2 or 1 times with 1, 3, 5 or 10 shots: copies.
_base_ = "glip_l_own_data_k10.py"

train_dataloader = dict(dataset=dict(shots=10, copies=1, seed=3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].patience = 3
custom_hooks = _base_.custom_hooks
custom_hooks[0].patience = 8
