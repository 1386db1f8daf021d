# mini GLIP with the VPT of "thermal", frozen, and a new VPT, which trains on "new_names": 4,480
# parameters.
_base_ = "../../mini/sdpt_mini_new_names.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.VPT", num_tokens=10, frozen=True),
        new=dict(type="mmsdpt.VPT", num_tokens=10),
    ),
)
tuner_files = dict(old="work_dirs/vpt_mini_thermal/tuner.safetensors")

# As VPT alone.
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=0.0))
