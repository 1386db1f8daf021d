# Domain generalisation: trained on ImageNet, tested on ImageNet-R, 200 of the classes.
_base_ = "clip_imagenet.py"

test_dataloader = dict(dataset=dict(name="imagenet-rendition"))
