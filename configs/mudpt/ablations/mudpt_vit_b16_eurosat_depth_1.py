# MuDPT on EuroSAT, D = 1: 396,544 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(depth=1))
