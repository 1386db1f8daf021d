# MuDPT on EuroSAT, no injection: 23,040 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(injection="none"))
