# SDPT on GLIP-T and COCO: six fusion layers, 122,880 parameters.
_base_ = "../_base_/models/glip_t.py"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# As on GLIP-L.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
