# MuDPT on EuroSAT, n = 8: 1,273,856 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(num_tokens=8))
