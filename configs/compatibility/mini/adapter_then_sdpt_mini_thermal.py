# Mini GLIP with the Adapter of "thermal", frozen, and SDPT of "new_names", tested on "thermal":
# give tools/test.py the file of slot new.
# Tokens leave words of other tasks alone; own_words_only=False is the poster's.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True),
        new=dict(type="mmsdpt.SDPT", num_tokens=10, own_words_only=True),
    ),
)
tuner_files = dict(old="work_dirs/adapter_mini_thermal/tuner.safetensors")
