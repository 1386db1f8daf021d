# LoRA on GLIP-L and Aquarium of ODinW13 at the poster's size: 1,597,440 parameters for its 1.58
# M: r = 13.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.LoRAXMHA", rank=13))

# As LoRA.
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.01))
