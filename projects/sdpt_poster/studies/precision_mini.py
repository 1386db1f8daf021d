# Training in bfloat16 (--amp) beside float32, on mini GLIP: methods of all kinds, ten shots. The
# trainings in float32 are those of main_mini.
_base_ = "parts/tasks.py"

compared = ["sdpt", "lora", "maple", "full_fine_tuning"]
amp = {"optim_wrapper.type": "CPUAmpOptimWrapper"}
methods = {
    f"{name}_bf16": dict(
        label=f"{_base_.methods[name]['label']}, bfloat16",
        config=_base_.methods[name]["config"],
        settings=amp,
    )
    for name in compared
}
study = dict(
    name="precision_mini",
    title="Trained in bfloat16 and in float32",
    protocol="comparison",
    methods=[f"{name}{kind}" for name in compared for kind in ("", "_bf16")],
    data=["infrared", "new_names", "new_shapes"],
    shots=[10],
    seeds=[3, 30, 300],
    selection=dict(monitor="coco/bbox_mAP", interval=9),
)
