# GLIP-L with the Adapter of COCO, frozen, and a new Adapter, which trains on Aquarium: 2,416,128
# parameters. Poster: 35.4 and 55.6 mAP on COCO and Aquarium.
_base_ = "../baselines/adapter_glip_l_aquarium.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True),
        new=dict(type="mmsdpt.Adapter", bottleneck=64),
    ),
)
tuner_files = dict(old="work_dirs/adapter_glip_l_coco/best_tuner.safetensors")
