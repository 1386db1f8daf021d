# MuDPT on EuroSAT, D = 12: 1,212,416 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(depth=12))
