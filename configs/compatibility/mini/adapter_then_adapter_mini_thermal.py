# Mini GLIP with the Adapter of "thermal", frozen, and a new Adapter of "new_names", tested on
# "thermal": give tools/test.py the file of slot new.
_base_ = "../../baselines/adapter_mini_thermal.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True),
        new=dict(type="mmsdpt.Adapter", bottleneck=64),
    ),
)
tuner_files = dict(old="work_dirs/adapter_mini_thermal/tuner.safetensors")
