# What the studies of mini GLIP share: the methods of the poster, and the drawn tasks.
_base_ = "../../../../configs/_base_/studies/glip.py"

baselines = "configs/baselines/{}_mini_thermal.py"
methods = {
    name: dict(label=label, config=baselines.format(name))
    for name, label in dict(
        linear_probing="Linear probing",
        full_fine_tuning="Full fine-tuning",
        bitfit="BitFit",
        bitfit_xmha="BitFit, X-MHA",
        lora="LoRA",
        lora_xmha="LoRA, X-MHA",
        adaptformer="AdaptFormer",
        vpt="VPT-deep",
        adapter="Adapter",
        glip_prompt="GLIP's prompt tuning",
        coop="CoOp",
        dpt="DPT",
        apollo="APoLLo",
        pmf="PMF",
        upt="UPT",
        maple="MaPLe",
        # Not in the poster.
        dora="DoRA",
        dora_xmha="DoRA, X-MHA",
        ssf="SSF",
        mona="Mona",
    ).items()
}
sdpt = "configs/mini/sdpt_mini_thermal.py"
methods["sdpt"] = dict(label="SDPT, k = 10", config=sdpt)
methods["sdpt_k120"] = dict(label="SDPT, k = 120", config=sdpt, settings=dict(num_tokens=120))
poster_methods = [each for each in methods if each not in ("dora", "dora_xmha", "ssf", "mona")]

# What moves away from pre-training: how things look, how they are called, or both.
groups = dict(
    infrared="new images",
    aerial="new images",
    clutter="new images",
    backgrounds="new images",
    new_names="new words",
    new_adjectives="new words",
    new_shapes="both new",
    thermal="both new",
)
data = {
    task: dict(config=f"configs/mini/sdpt_mini_{task}.py", group=group, epochs=18)
    for task, group in groups.items()
}
data["thermal"].pop("epochs")  # its config's 25
data["common"] = dict(config="configs/mini/sdpt_mini_common.py", epochs=18)
data["long_tail"] = dict(config="configs/mini/sdpt_mini_long_tail.py", epochs=5)
data["seen"] = dict(config="projects/sdpt_poster/studies/parts/seen.py")
data["held_out"] = dict(config="projects/sdpt_poster/studies/parts/held_out.py")

# A flip is all that is random, so that kept features are those of a run without the cache.
cell = dict(feature_cache=dict(views="drawn"))

# What mini GLIP was trained on: all phrases of three words but a fifth, those of "held_out".
shapes = "circle square triangle star heart ring cross moon arrow flower bolt hourglass".split()
colours = "red orange yellow green cyan blue purple pink brown white black grey".split()
textures = "plain striped dotted checkered outlined".split()
known_phrases = [
    f"{texture} {colour} {shape}"
    for i, shape in enumerate(shapes)
    for j, colour in enumerate(colours)
    for k, texture in enumerate(textures)
    if (i + j + k) % 5
]
