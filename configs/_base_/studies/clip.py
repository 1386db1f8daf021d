# What studies of CLIP share: hosts, methods, metrics.
hosts = dict(
    mini_clip=dict(config="configs/_base_/models/mini_clip.py", load_from="mmsdpt://mini_clip"),
)
_baselines = "configs/clip_baselines/"
methods = dict(
    zero_shot=dict(label="Zero-shot CLIP"),
    zero_shot_ensemble=dict(label="Zero-shot CLIP, ensemble", ensemble=True),
    linear_probe=dict(label="Linear probe", config=_baselines + "linear_probe_vit_b16.py"),
    # Epochs by shots as in CoOp's experiments.
    coop=dict(
        label="CoOp",
        config=_baselines + "coop_vit_b16.py",
        epochs=[(1, 50), (2, 100), (8, 200)],
    ),
    cocoop=dict(label="CoCoOp", config=_baselines + "cocoop_vit_b16.py"),
    vpt=dict(label="VPT deep", config=_baselines + "vpt_vit_b16.py"),
    independent_vl=dict(label="Independent V-L", config=_baselines + "independent_vl_vit_b16.py"),
    maple=dict(label="MaPLe", config=_baselines + "maple_vit_b16.py"),
    mudpt=dict(label="MuDPT", config="configs/mudpt/mudpt_vit_b16.py"),
    mudpt_one_way=dict(
        label="MuDPT, one-way transformer", config="configs/mudpt/mudpt_one_way_vit_b16.py"
    ),
    mudpt_transformer=dict(
        label="MuDPT, transformer", config="configs/mudpt/mudpt_transformer_vit_b16.py"
    ),
)
study = dict(
    runtime="configs/_base_/clip_runtime.py",
    hosts=["clip_vit_b16"],
    methods=list(methods),
    shots=[16],
    seeds=[1, 2, 3],
    metrics=[dict(type="Accuracy", topk=(1,)), dict(type="mmsdpt.AlignmentMetric")],
)
# The alignment is measured on the features that the model predicts from.
cell = dict(model=dict(predict_features=True))
