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
    methods=list(methods),  # a study names later ones itself: study.methods=["mudpt", "mmrl"]
    shots=[16],
    seeds=[1, 2, 3],
    metrics=[dict(type="Accuracy", topk=(1,)), dict(type="mmsdpt.AlignmentMetric")],
)
# What came after the paper.
methods.update(
    kgcoop=dict(label="KgCoOp", config=_baselines + "kgcoop_vit_b16.py"),
    clip_adapter=dict(label="CLIP-Adapter", config=_baselines + "clip_adapter_vit_b16.py"),
    promptsrc=dict(label="PromptSRC", config=_baselines + "promptsrc_vit_b16.py"),
    clip_lora=dict(
        label="CLIP-LoRA",
        config=_baselines + "clip_lora_vit_b16.py",
        iterations_per_shot=500,
    ),
    tip_adapter_f=dict(label="Tip-Adapter-F", config=_baselines + "tip_adapter_f_vit_b16.py"),
    mma=dict(label="MMA", config=_baselines + "mma_vit_b16.py"),
    tcp=dict(label="TCP", config=_baselines + "tcp_vit_b16.py"),
    mmrl=dict(label="MMRL", config=_baselines + "mmrl_vit_b16.py"),
)
# The alignment is measured on the features that the model predicts from.
cell = dict(model=dict(predict_features=True))
