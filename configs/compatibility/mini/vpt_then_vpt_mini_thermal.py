# Mini GLIP with the VPT of "thermal", frozen, and a new VPT of "new_names", tested on "thermal":
# give tools/test.py the file of slot new.
_base_ = "../../baselines/vpt_mini_thermal.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.VPT", num_tokens=10, frozen=True),
        new=dict(type="mmsdpt.VPT", num_tokens=10),
    ),
)
tuner_files = dict(old="work_dirs/vpt_mini_thermal/tuner.safetensors")
