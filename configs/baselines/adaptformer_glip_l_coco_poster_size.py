# AdaptFormer on GLIP-L and COCO: bottlenecks of 1,568 beside every image FFN, 56,654,208
# parameters. The SDPT poster's 56.60 M, met within 0.1 %: wider than the narrow blocks themselves.
_base_ = "adaptformer_glip_l_coco.py"

model = dict(tuner=dict(bottleneck=1568))
