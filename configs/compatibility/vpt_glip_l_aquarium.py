# GLIP-L with the VPT of COCO, frozen, on Aquarium: for testing, nothing trains. Poster: 55.4 and
# 27.6 mAP on COCO and Aquarium.
_base_ = "../baselines/vpt_glip_l_aquarium.py"

model = dict(tuner=None, tuners=dict(old=dict(type="mmsdpt.VPT", num_tokens=10, frozen=True)))
tuner_files = dict(old="work_dirs/vpt_glip_l_coco/best_tuner.safetensors")
