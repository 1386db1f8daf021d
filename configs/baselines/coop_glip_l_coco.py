# CoOp on GLIP-L and COCO: M = 16 context vectors, 12,288 parameters. There is no config of the SDPT
# poster's 0.52 M: that would be 677 vectors, and BERT has 256 positions behind a full caption.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.CoOp", num_tokens=16))

# Rate and decay of the paper.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=5e-4))
