# SDPT on MM-Grounding-DINO with Swin-T and COCO: k = 10 prototype tokens of width 1024 in each of
# six fusion layers, 61,440 parameters.
_base_ = "../_base_/models/mm_grounding_dino_swin_t.py"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# As on GLIP-L.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
