# SDPT on mini GLIP and the "thermal" task, ten shots: k = 10 tokens in each of three fusion layers,
# 7,680 parameters.
_base_ = [
    "../_base_/models/mini_glip.py",
    "../_base_/datasets/scene_task.py",
    "../_base_/mini_world_runtime.py",
]
load_from = "mmsdpt://mini_glip"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# Many small steps learn most in a given time.
train_dataloader = dict(batch_size=4)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=25, val_interval=25)
# The rate is the best of 3e-2, 3e-1 and 3 on the val split.
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=3e-1, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
# Over the whole run, however many epochs it has.
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True)]
