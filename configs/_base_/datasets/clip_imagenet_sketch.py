# Domain generalisation: trained on ImageNet, tested on ImageNet-Sketch.
_base_ = "clip_imagenet.py"

test_dataloader = dict(dataset=dict(name="imagenet-sketch"))
