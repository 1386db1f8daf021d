# MuDPT on EuroSAT, linear injection from text to image only: 811,008 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(direction="text_to_image"))
