# Photographs of clothing, 10 classes, in folders train, validation and test. Other images in one
# folder per class need only another data_root.
_base_ = "clip_fewshot.py"

data_root = "data/clothing/"
folders = dict(name="folder", data_root=data_root)
train_dataloader = dict(dataset=folders)
val_dataloader = dict(dataset=folders)
test_dataloader = dict(dataset=folders)
