# MuDPT on EuroSAT, 2 layers in the injection transformers: 21,296,384 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(injection="transformer", injection_layers=2))
