# What tuning on new words makes mini GLIP forget, and what bends the line between gain and loss.
_base_ = "parts/tasks.py"

of_sdpt = dict(config=_base_.sdpt)
rate, decay = "optim_wrapper.optimizer.lr", "optim_wrapper.optimizer.weight_decay"
kept, kept_a_little, kept_strictly = (
    {"model.retention": dict(phrases=_base_.known_phrases, weight=weight)}
    for weight in (1.0, 0.3, 3.0)
)
methods = dict(
    sdpt_slow=dict(of_sdpt, label="SDPT, a tenth of the rate", settings={rate: "*0.1"}),
    sdpt_decay=dict(of_sdpt, label="SDPT, weight decay 0.1", settings={decay: 0.1}),
    sdpt_zeros=dict(of_sdpt, label="SDPT, from zeros", settings=dict(init="zeros")),
    sdpt_k2=dict(of_sdpt, label="SDPT, k = 2", settings=dict(num_tokens=2)),
    sdpt_kept_a_little=dict(of_sdpt, label="SDPT, retention 0.3", settings=kept_a_little),
    sdpt_kept=dict(of_sdpt, label="SDPT, retention", settings=kept),
    sdpt_kept_strictly=dict(of_sdpt, label="SDPT, retention 3", settings=kept_strictly),
    lora_xmha_kept=dict(
        config="configs/baselines/lora_xmha_mini_thermal.py",
        label="LoRA, X-MHA, retention",
        settings=kept,
    ),
    linear_probing_kept=dict(
        config="configs/baselines/linear_probing_mini_thermal.py",
        label="Linear probing, retention",
        settings=kept,
    ),
    adapter_kept=dict(
        config="configs/baselines/adapter_mini_thermal.py",
        label="Adapter, retention",
        settings=kept,
    ),
)
study = dict(
    name="retention_mini",
    title="Gain and forgetting",
    protocol="comparison",
    methods=["sdpt", *methods, "lora_xmha", "linear_probing", "adapter"],
    data=["new_names"],
    forgetting=["thermal", "seen", "held_out"],
    shots=[10],
    seeds=[3],
)
