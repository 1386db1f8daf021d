# GLIP-L with the VPT of COCO, frozen, and a new VPT of Aquarium, tested on COCO: give
# tools/test.py the file of slot new.
_base_ = "../baselines/vpt_glip_l_coco.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.VPT", num_tokens=10, frozen=True),
        new=dict(type="mmsdpt.VPT", num_tokens=10),
    ),
)
tuner_files = dict(old="work_dirs/vpt_glip_l_coco/best_tuner.safetensors")
