# The eight methods with the highest mean in main_mini, by number of images: one, five, ten, all.
_base_ = "main_mini.py"

study = dict(
    name="shots_mini",
    title="Methods on mini GLIP, by number of images",
    methods=[
        "linear_probing",
        "full_fine_tuning",
        "lora_xmha",
        "adapter",
        "glip_prompt",
        "apollo",
        "sdpt",
        "sdpt_k120",
    ],
    forgetting=[],
    shots=[1, 5, 10, 0],
)
