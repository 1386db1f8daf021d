# MuDPT on EuroSAT, D = 3: 1,189,376 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(depth=3))
