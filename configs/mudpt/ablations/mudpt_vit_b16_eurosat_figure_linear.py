# MuDPT on EuroSAT, the paper's figure with linear injection: 813,312 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(variant="figure"))
