# Adapter (Houlsby) on GLIP-L and Aquarium: two bottlenecks of 286 in every text layer, and its
# norms, 10,605,264 parameters. The SDPT poster's 10.62 M, met within 0.2 %.
_base_ = "adapter_glip_l_aquarium.py"

model = dict(tuner=dict(bottleneck=286))
