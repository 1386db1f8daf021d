# MuDPT on EuroSAT, n = 16: 1,366,016 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(num_tokens=16))
