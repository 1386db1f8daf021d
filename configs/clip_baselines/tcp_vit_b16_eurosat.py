# TCP on CLIP ViT-B/16 and EuroSAT, 16 images per class: 331,904 parameters.
_base_ = ["../_base_/methods/tcp_vit_b16.py", "../_base_/datasets/clip_eurosat.py"]

train_dataloader = dict(batch_size=32)
