# MuDPT on EuroSAT, D = 6: 1,197,056 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(depth=6))
