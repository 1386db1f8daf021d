# Photographs of clothing, 10 classes, in folders train, validation and test. Any other data in a
# folder per class needs only another data_root.
_base_ = "clip_fewshot.py"

data_root = "data/clothing/"
folders = dict(name="folder", data_root=data_root)
train_dataloader = dict(dataset=folders)
val_dataloader = dict(dataset=folders)
test_dataloader = dict(dataset=folders)
