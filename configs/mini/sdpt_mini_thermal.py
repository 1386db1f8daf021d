# SDPT on mini GLIP and the "thermal" task, ten shots: k = 10 tokens in each of three fusion layers,
# 7,680 parameters.
_base_ = [
    "../_base_/models/mini_glip.py",
    "../_base_/datasets/scene_task.py",
    "../_base_/schedules/mini_sdpt.py",
    "../_base_/mini_world_runtime.py",
]
load_from = "mmsdpt://mini_glip"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# Many small steps learn most in a given time.
train_dataloader = dict(batch_size=4)
