# BitFit on GLIP-L and COCO at the poster's size: 414,565 parameters for its 0.42 M: all parts but
# the fused BERT layers.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(
    tuner=dict(
        _delete_=True,
        type="mmsdpt.BitFit",
        groups=["image", "neck", "text", "fusion", "dyconv", "outputs"],
    )
)

# The paper searches rates from 1e-4 to 1e-3; no decay.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
