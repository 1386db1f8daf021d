# GLIP-L with the Adapter of COCO, frozen, and a new Adapter of Aquarium, tested on COCO: give
# tools/test.py the file of slot new.
_base_ = "../baselines/adapter_glip_l_coco.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True),
        new=dict(type="mmsdpt.Adapter", bottleneck=64),
    ),
)
tuner_files = dict(old="work_dirs/adapter_glip_l_coco/best_tuner.safetensors")
