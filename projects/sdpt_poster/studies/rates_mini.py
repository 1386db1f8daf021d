# Three rates for each method, a third, one and three times its config's, on validation images.
_base_ = "parts/tasks.py"

study = dict(
    name="rates_mini",
    title="Rates on validation images",
    protocol="comparison",
    methods=_base_.poster_methods,
    data=["thermal"],
    split="val",
    shots=[10],
    seeds=[3],
    vary=dict(rate={"optim_wrapper.optimizer.lr": ["*0.3", "*1", "*3"]}),
)
