# Twice the epochs of main_mini, for methods that some seeds leave without the new words.
_base_ = "main_mini.py"

study = dict(
    name="epochs_mini",
    title="Methods that learn new words late, with twice the epochs",
    methods=["lora_xmha", "adapter", "sdpt", "sdpt_k120"],
    data=["new_names", "new_adjectives"],
    forgetting=[],
    seeds=[3, 30],
    epochs=36,
)
