# GLIP's prompt tuning on GLIP-L and Aquarium: an offset per caption position, 196,608 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.GLIPPrompt"))

# Rate and decay of GLIP's released code.
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=0.25))
