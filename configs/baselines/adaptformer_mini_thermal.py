# AdaptFormer on mini GLIP and the "thermal" task: bottlenecks of 64 beside every image FFN, 58,176
# parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(_delete_=True, type="mmsdpt.AdaptFormer", bottleneck=64))

# No weight decay, as in the paper.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
