# From base to new classes: 16 images of each class of the first half; both halves are tested.
_base_ = "few_shot.py"

study = dict(
    name="base_to_new", title="From base to new classes", protocol="base_to_new", shots=[16]
)
