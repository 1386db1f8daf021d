# CLIP-LoRA on CLIP ViT-B/16 and EuroSAT, 16 images per class: 184,320 parameters.
_base_ = ["../_base_/methods/clip_lora_vit_b16.py", "../_base_/datasets/clip_eurosat.py"]

train_dataloader = dict(batch_size=32)
