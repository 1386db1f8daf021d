# mini GLIP with the Adapter of "thermal", frozen, and a new Adapter, which trains on "new_names":
# 134,656 parameters.
_base_ = "../../mini/sdpt_mini_new_names.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True),
        new=dict(type="mmsdpt.Adapter", bottleneck=64),
    ),
)
tuner_files = dict(old="work_dirs/adapter_mini_thermal/tuner.safetensors")

# As Adapter alone.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
