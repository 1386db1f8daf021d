# Two methods that learn nothing on all images of BCCD at their rates, with a third and a tenth.
_base_ = "photographs_mini.py"

study = dict(
    name="bccd_rates_mini",
    title="Rates on BCCD",
    methods=["lora_xmha", "adapter"],
    data=[each for each in _base_.study.data if each["name"] == "bccd"],
    forgetting=[],
    shots=[0],
    seeds=[3],
    vary=dict(rate={"optim_wrapper.optimizer.lr": ["*0.1", "*0.3"]}),
)
