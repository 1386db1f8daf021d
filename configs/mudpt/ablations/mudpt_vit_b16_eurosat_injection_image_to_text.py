# MuDPT on EuroSAT, linear injection from image to text only: 416,768 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

model = dict(tuner=dict(direction="image_to_text"))
