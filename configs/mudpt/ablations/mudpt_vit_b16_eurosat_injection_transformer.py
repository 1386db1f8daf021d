# MuDPT on EuroSAT, injection transformers both ways: 11,056,128 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(injection="transformer"))
