# MuDPT on EuroSAT, a linear map for each depth: 6,718,720 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(share=False))
