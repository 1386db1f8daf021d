# MaPLe on GLIP-L and Aquarium: n = 2 prompts at 9 depths, 5,181,504 parameters. There is no config
# of the SDPT poster's 2.96 M: 5 depths have 3,108,288, 4 have 2,516,160.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.MaPLe", num_tokens=2))

# The decay of the authors' code; their rate, 3.5e-3, is for SGD, this one is ours.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=5e-4))
