# GLIP-L with the Adapter of COCO, frozen, and a new Adapter, which trains on Aquarium: 2,416,128
# parameters. Poster: 35.4 and 55.6 mAP on COCO and Aquarium.
_base_ = "adapter_glip_l_aquarium.py"

model = dict(tuners=dict(new=dict(type="mmsdpt.Adapter", bottleneck=64)))
