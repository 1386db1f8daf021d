# From one data set to others: 16 images of each class of ImageNet; ten other data sets are tested.
_base_ = "few_shot.py"

study = dict(
    name="cross_dataset",
    title="From one data set to others",
    protocol="transfer",
    source="clip_imagenet",
    shots=[16],
)
