# MuDPT on EuroSAT, a transformer makes the image prompts: 3,557,632 parameters.
_base_ = "../mudpt_vit_b16_eurosat.py"

one_way = dict(injection="transformer", direction="text_to_image", learn_image_prompts=False)
model = dict(tuner=one_way)
