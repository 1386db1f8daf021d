# Every method on mini GLIP and one small drawn task. A config here is a method's or the data's, or
# both: only its part counts.
_base_ = "../../../configs/_base_/studies/glip.py"

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
        dora="DoRA",
        dora_xmha="DoRA, X-MHA",
        ssf="SSF",
        mona="Mona",
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
    ).items()
}
methods["sdpt"] = dict(label="SDPT", config="configs/mini/sdpt_mini_thermal.py")
data = dict(
    thermal=dict(config="configs/mini/sdpt_mini_thermal.py"),
    # Fewer epochs than the other tasks.
    new_names=dict(config="configs/mini/sdpt_mini_new_names.py", epochs=18),
)
study = dict(
    name="comparison_mini",
    title="All methods on one small task",
    protocol="comparison",
    methods=list(methods),
    data=["thermal"],
    published="projects.sdpt_poster.published",
)
