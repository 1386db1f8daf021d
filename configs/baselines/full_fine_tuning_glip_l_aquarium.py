# Full fine-tuning on GLIP-L and Aquarium of ODinW13: 430,401,824 parameters.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.FullFineTuning"))

# Rate and decay of MMDetection's fine-tuning configs.
optim_wrapper = dict(optimizer=dict(lr=2e-5, weight_decay=0.05))
