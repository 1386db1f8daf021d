# KgCoOp on CLIP ViT-B/16 and DTD, 16 images per class: 2,048 parameters.
_base_ = ["../_base_/methods/kgcoop_vit_b16.py", "../_base_/datasets/clip_dtd.py"]

train_dataloader = dict(batch_size=32)
model = dict(tuner=dict(teacher_template="a photo of a {}, a type of texture."))
