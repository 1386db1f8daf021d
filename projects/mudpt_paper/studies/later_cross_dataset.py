# MuDPT beside the methods that came after it, from ImageNet to ten other data sets, each at its own
# recipe for this. To the variants of ImageNet, with data as in domain_generalisation.py:
#   --cfg-options study.data=[clip_imagenetv2,clip_imagenet_sketch]
_base_ = "cross_dataset.py"

_recipes = "projects/mudpt_paper/studies/recipes/"
methods = dict(
    promptsrc=dict(config=_recipes + "promptsrc_transfer.py"),
    mma=dict(config=_recipes + "mma_transfer.py"),
    mmrl=dict(config=_recipes + "mmrl_transfer.py"),
)
study = dict(
    name="later_cross_dataset",
    title="MuDPT and later methods, from one data set to others",
    methods=["maple", "mudpt", "mudpt_one_way", "mudpt_transformer", "promptsrc", "mma", "mmrl"],
)
