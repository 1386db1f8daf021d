# VPT-deep on GLIP-L and COCO: p = 236 prompts in every image block, 4,259,328 parameters. The SDPT
# poster's 4.26 M, met exactly.
_base_ = "vpt_glip_l_coco.py"

model = dict(tuner=dict(num_tokens=236))
