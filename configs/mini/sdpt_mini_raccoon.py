# SDPT on mini GLIP and Raccoon, photographs: 150 to train on, 29 to choose the best epoch, 17 to
# test.
#   python tools/dataset_converters/voc2coco.py RACCOON --out data/raccoon --split 150,29,17
_base_ = [
    "../_base_/models/mini_glip.py",
    "../_base_/datasets/converted.py",
    "../_base_/schedules/mini_sdpt.py",
    "../_base_/default_runtime.py",
]
load_from = "mmsdpt://mini_glip"

model = dict(tuner=dict(type="mmsdpt.SDPT", num_tokens=10))

train_cfg = dict(max_epochs=12, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP", rule="greater"))
