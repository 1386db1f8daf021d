# Zero-shot quality of mini CLIP: 24 combinations of shape, colour and texture that pre-training
# never showed or named, two of each shape and colour; one in each picture.
_base_ = ["../_base_/models/mini_clip.py", "../_base_/clip_runtime.py"]
custom_imports = dict(imports=[*_base_.custom_imports.imports, "projects.mini_world"])
load_from = "mmsdpt://mini_clip"

test_dataloader = dict(
    batch_size=60,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="mmsdpt.SceneCaptionDataset",
        num_samples=960,
        seed=1001,
        classes=(
            "dotted red arrow",
            "dotted red star",
            "checkered orange cross",
            "checkered orange hourglass",
            "checkered yellow ring",
            "dotted yellow hourglass",
            "plain green moon",
            "striped green square",
            "striped cyan ring",
            "outlined cyan moon",
            "dotted blue star",
            "plain blue circle",
            "outlined purple bolt",
            "striped purple arrow",
            "outlined pink heart",
            "striped pink triangle",
            "checkered brown flower",
            "checkered brown heart",
            "plain white cross",
            "plain white square",
            "striped black flower",
            "plain black circle",
            "dotted grey triangle",
            "outlined grey bolt",
        ),
        pipeline=[dict(type="PackInputs")],
        test_mode=True,
    ),
)
test_evaluator = dict(type="Accuracy", topk=(1,))
test_cfg = dict()
