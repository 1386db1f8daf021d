# MuDPT on EuroSAT, 4 layers in the injection transformers: 41,776,896 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(injection="transformer", injection_layers=4))
