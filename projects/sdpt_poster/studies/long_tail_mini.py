# All methods on 24 known classes of which most are rare, as where GLIP is tuned on LVIS; all
# images, scored as LVIS is.
_base_ = "main_mini.py"

study = dict(
    name="long_tail_mini",
    title="All methods on mini GLIP, a long tail",
    data=["long_tail"],
    shots=[0],
    published=None,
    selection=dict(monitor="lvis_fixed_ap/AP", interval=5),
)
