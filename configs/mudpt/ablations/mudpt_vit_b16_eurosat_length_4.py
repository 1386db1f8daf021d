# MuDPT on EuroSAT, n = 4: 1,227,776 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(num_tokens=4))
