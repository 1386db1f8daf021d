# Mini GLIP with the Adapter of "thermal", frozen, on "new_names": for testing, nothing trains.
_base_ = "../../mini/sdpt_mini_new_names.py"

model = dict(tuner=None, tuners=dict(old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True)))
tuner_files = dict(old="work_dirs/adapter_mini_thermal/tuner.safetensors")
