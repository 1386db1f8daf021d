# MuDPT on EuroSAT, 3 layers in the injection transformers: 31,536,640 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(injection="transformer", injection_layers=3))
