# The tuner files of projects/model_zoo: SDPT on mini GLIP, one for each drawn task of ten shots.
_base_ = "../../../configs/_base_/studies/glip.py"

methods = dict(sdpt=dict(label="SDPT", config="configs/mini/sdpt_mini_thermal.py"))
data = {
    task: dict(config=f"configs/mini/sdpt_mini_{task}.py")
    for task in (
        "aerial",
        "backgrounds",
        "clutter",
        "common",
        "infrared",
        "new_adjectives",
        "new_names",
        "new_shapes",
        "thermal",
    )
}
study = dict(
    name="model_zoo",
    title="Tuner files for the drawn tasks",
    protocol="comparison",
    methods=["sdpt"],
    data=list(data),
    # The epoch that is best on the validation images; the untuned model is among them.
    selection=dict(monitor="coco/bbox_mAP", interval=5, patience=None),
)
# Eight views of each image, so that the frozen encoders see it eight times and not 25.
cell = dict(feature_cache=dict(views=8))
