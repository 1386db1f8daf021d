# What tuning on new words makes mini GLIP forget, and what bends the line between gain and loss.
_base_ = "parts/tasks.py"

of_sdpt = dict(config=_base_.sdpt)
rate, decay = "optim_wrapper.optimizer.lr", "optim_wrapper.optimizer.weight_decay"
kept, kept_more, kept_most = (
    {"model.retention": dict(phrases=_base_.known_phrases, weight=weight)}
    for weight in (0.3, 1.0, 3.0)
)
longer = {"train_cfg.max_epochs": 36}
methods = dict(
    sdpt_slow=dict(of_sdpt, label="SDPT, a tenth of the rate", settings={rate: "*0.1"}),
    sdpt_decay=dict(of_sdpt, label="SDPT, weight decay 0.1", settings={decay: 0.1}),
    sdpt_zeros=dict(of_sdpt, label="SDPT, from zeros", settings=dict(init="zeros")),
    sdpt_k2=dict(of_sdpt, label="SDPT, k = 2", settings=dict(num_tokens=2)),
    sdpt_kept=dict(of_sdpt, label="SDPT, retention 0.3", settings=kept),
    sdpt_kept_more=dict(of_sdpt, label="SDPT, retention 1", settings=kept_more),
    sdpt_kept_most=dict(of_sdpt, label="SDPT, retention 3", settings=kept_most),
    sdpt_kept_longer=dict(of_sdpt, label="SDPT, retention 0.3, 36 epochs", settings=kept | longer),
    lora_xmha_kept=dict(
        config="configs/baselines/lora_xmha_mini_thermal.py",
        label="LoRA, X-MHA, retention 0.3",
        settings=kept,
    ),
    linear_probing_kept=dict(
        config="configs/baselines/linear_probing_mini_thermal.py",
        label="Linear probing, retention 0.3",
        settings=kept,
    ),
    adapter_kept=dict(
        config="configs/baselines/adapter_mini_thermal.py",
        label="Adapter, retention 0.3",
        settings=kept,
    ),
)
study = dict(
    name="retention_mini",
    title="Gain and forgetting",
    protocol="comparison",
    methods=["sdpt", *methods, "lora_xmha", "linear_probing", "adapter"],
    data=["new_names", "infrared"],
    forgetting=["seen", "held_out"],
    shots=[10],
    seeds=[3],
)
