# UPT on GLIP-L and COCO: n = 4 prompts per encoder from one set, 5,767,488 parameters. There is no
# config of the SDPT poster's 2.75 M: the transformer and the Linears of this width have more.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.UPT", num_prompts=4))

# The authors' rate (SGD there), and CoOp's decay.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=5e-4))
