# The poster's tables of synchrony and of inverse projections, on mini GLIP, k = 200.
_base_ = "parts/tasks.py"

sdpt_200 = dict(config="configs/ablations/mini/mini_thermal_k200.py")
ablation = "configs/ablations/mini/mini_thermal_k200_{}.py"
methods = dict(
    synchronous=dict(sdpt_200, label="SDPT, k = 200"),
    unshared=dict(label="unshared", config=ablation.format("unshared")),
    asynchronous=dict(label="asynchronous", config=ablation.format("asynchronous")),
    inverse_text=dict(label="text side only", config=ablation.format("inverse_text")),
    inverse_image=dict(label="image side only", config=ablation.format("inverse_image")),
)
# The best of those tried on validation images (synchrony_rates_mini).
rate = {"optim_wrapper.optimizer.lr": "*0.01"}
sides = dict(dual="learnable", text="learnable, text side only", image="learnable, image side only")
methods |= {
    f"learnable_{side}": dict(
        label=label, config=ablation.format(f"learnable_{side}"), settings=rate
    )
    for side, label in sides.items()
}
study = dict(
    name="synchrony_mini",
    title="Synchrony and inverse projections",
    protocol="comparison",
    methods=list(methods),
    data=["new_names", "infrared", "new_shapes"],
    forgetting=["seen", "held_out"],
    shots=[10],
    seeds=[3, 30, 300],
    selection=dict(monitor="coco/bbox_mAP", interval=9),
)
