# PMF on GLIP-L and COCO at the size in the SDPT poster (1.53 M): hidden width 160 in the MLPs,
# 1,535,104 parameters.
_base_ = "pmf_glip_l_coco.py"

model = dict(tuner=dict(hidden_width=160))
