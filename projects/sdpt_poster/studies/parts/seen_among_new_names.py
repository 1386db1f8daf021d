# The phrases of seen.py and the words of new_names in one caption, on pictures of the first.
_base_ = "seen.py"

task = "seen_among_new_names"
data_root = f"data/scenes/{task}/"
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_evaluator = dict(ann_file=data_root + "annotations/short.json")
