# Rates of what synchrony_mini compares, on validation images: SDPT's rate is that of tokens, and a
# projection that is learned may need another.
_base_ = "synchrony_mini.py"

methods = {f"learnable_{side}": dict(settings=dict(_delete_=True)) for side in _base_.sides}
study = dict(
    name="synchrony_rates_mini",
    title="Synchrony and inverse projections: rates on validation images",
    data=["new_names", "infrared"],
    forgetting=[],
    split="val",
    seeds=[3],
    vary=dict(rate={"optim_wrapper.optimizer.lr": ["*0.001", "*0.01", "*0.1", "*1"]}),
)
