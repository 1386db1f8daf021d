# CLIP-LoRA on CLIP ViT-B/16 and FGVC Aircraft, 16 images per class: 184,320 parameters.
_base_ = ["../_base_/methods/clip_lora_vit_b16.py", "../_base_/datasets/clip_fgvc_aircraft.py"]

train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=160, val_interval=160)  # about 8,000 iterations
