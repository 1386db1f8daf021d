# Domain generalisation: trained on ImageNet, tested on ImageNetV2, matched frequency.
_base_ = "clip_imagenet.py"

test_dataloader = dict(dataset=dict(name="imagenetv2"))
