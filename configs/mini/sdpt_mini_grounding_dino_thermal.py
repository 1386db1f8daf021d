# SDPT on mini Grounding DINO and the "thermal" task, ten shots: k = 10 tokens in each of three
# fusion layers, 7,680 parameters.
_base_ = [
    "../_base_/models/mini_grounding_dino.py",
    "../_base_/datasets/scene_task.py",
    "../_base_/schedules/mini_sdpt.py",
    "../_base_/mini_world_runtime.py",
]
load_from = "mmsdpt://mini_grounding_dino"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

# Boxes end where they end, not one pixel earlier as GLIP's.
train_pipeline = [
    dict(type="LoadImageFromFile", imdecode_backend="pillow"),
    dict(type="LoadAnnotations", with_bbox=True),
    _base_.resize,
    dict(type="RandomFlip", prob=0.5),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs", meta_keys=(*_base_.meta_keys, "flip", "flip_direction")),
]
train_dataloader = dict(batch_size=4, dataset=dict(dataset=dict(pipeline=train_pipeline)))
