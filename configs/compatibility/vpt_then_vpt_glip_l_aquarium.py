# GLIP-L with the VPT of COCO, frozen, and a new VPT, which trains on Aquarium: 180,480 parameters.
# Poster: 30.8 and 53.1 mAP on COCO and Aquarium.
_base_ = "../baselines/vpt_glip_l_aquarium.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.VPT", num_tokens=10, frozen=True),
        new=dict(type="mmsdpt.VPT", num_tokens=10),
    ),
)
tuner_files = dict(old="work_dirs/vpt_glip_l_coco/best_tuner.safetensors")
