# Rates from a tenth to ten times that of each method's config, on validation images.
_base_ = "parts/tasks.py"

study = dict(
    name="rates_mini",
    title="Rates on validation images",
    protocol="comparison",
    methods=_base_.poster_methods,
    data=["new_names", "new_shapes", "new_adjectives", "infrared", "aerial", "clutter"],
    split="val",
    shots=[10],
    seeds=[3],
    vary=dict(rate={"optim_wrapper.optimizer.lr": ["*0.1", "*0.3", "*1", "*3", "*10"]}),
)
