# All methods where nothing is new but the set of classes, as where GLIP is tuned on COCO.
_base_ = "main_mini.py"

study = dict(
    name="common_mini",
    title="All methods on mini GLIP, nothing new",
    data=["common"],
)
