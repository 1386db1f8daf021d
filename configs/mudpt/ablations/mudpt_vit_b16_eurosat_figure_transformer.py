# MuDPT on EuroSAT, the paper's figure: 11,053,568 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(injection="transformer", variant="figure"))
