# GLIP-L with the VPT of COCO, frozen, and a new VPT, which trains on Aquarium: 180,480
# parameters. Poster: 30.8 and 53.1 mAP on COCO and Aquarium.
_base_ = "vpt_glip_l_aquarium.py"

model = dict(tuners=dict(new=dict(type="mmsdpt.VPT", num_tokens=10)))
