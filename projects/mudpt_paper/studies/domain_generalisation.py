# From ImageNet to its variants: 16 images of each class.
_base_ = "cross_dataset.py"

study = dict(
    name="domain_generalisation",
    title="From one data set to its variants",
    data=[
        "clip_imagenetv2",
        "clip_imagenet_sketch",
        "clip_imagenet_adversarial",
        "clip_imagenet_rendition",
    ],
)
