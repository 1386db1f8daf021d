# The eight methods with the highest mean in main_mini, by number of images: one, five, ten, all.
# With all 200 images 4 epochs are 200 steps, twice those of ten shots.
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
    data=[dict(name=task, epochs=[(0, 4), (1, 18)]) for task in _base_.study.data],
    forgetting=[],
    shots=[1, 5, 10, 0],
)
