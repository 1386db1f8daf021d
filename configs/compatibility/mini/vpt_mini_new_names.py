# Mini GLIP with the VPT of "thermal", frozen, on "new_names": for testing, nothing trains.
_base_ = "../../mini/sdpt_mini_new_names.py"

model = dict(tuner=None, tuners=dict(old=dict(type="mmsdpt.VPT", num_tokens=10, frozen=True)))
tuner_files = dict(old="work_dirs/vpt_mini_thermal/tuner.safetensors")
