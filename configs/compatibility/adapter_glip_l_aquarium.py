# GLIP-L with the Adapter of COCO, frozen, on Aquarium: for testing, nothing trains. Poster: 56.8
# and 30.7 mAP on COCO and Aquarium.
_base_ = "../baselines/adapter_glip_l_aquarium.py"

model = dict(tuner=None, tuners=dict(old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True)))
tuner_files = dict(old="work_dirs/adapter_glip_l_coco/best_tuner.safetensors")
