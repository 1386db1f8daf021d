# SDPT on GLIP-L and COCO: k = 10 prototype tokens in each of eight fusion layers, 163,840
# parameters.
_base_ = "../_base_/models/glip_l.py"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# Tokens are drawn from U(-1, 1): their rate is far above that of weights. No decay: it would pull
# them to the middle of the joint space.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
