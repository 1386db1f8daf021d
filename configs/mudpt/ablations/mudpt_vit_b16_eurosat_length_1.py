# MuDPT on EuroSAT, n = 1: 1,193,216 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(num_tokens=1))
