# CLIP-LoRA on CLIP ViT-B/16 and Food-101, 16 images per class: 184,320 parameters.
_base_ = ["../_base_/methods/clip_lora_vit_b16.py", "../_base_/datasets/clip_food_101.py"]

train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=157, val_interval=157)  # about 8,000 iterations
