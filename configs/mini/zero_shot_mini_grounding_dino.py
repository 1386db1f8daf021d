# Zero-shot quality of mini Grounding DINO: 24 full phrases of combinations that pre-training never
# showed or named.
_base_ = [
    "../_base_/models/mini_grounding_dino.py",
    "../_base_/datasets/scene_task.py",
    "../_base_/mini_world_runtime.py",
]
load_from = "mmsdpt://mini_grounding_dino"

task = "held_out"
data_root = "data/scenes/held_out/"
train_dataloader = None
val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
