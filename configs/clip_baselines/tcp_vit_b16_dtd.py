# TCP on CLIP ViT-B/16 and DTD, 16 images per class: 331,904 parameters.
_base_ = ["../_base_/methods/tcp_vit_b16.py", "../_base_/datasets/clip_dtd.py"]

train_dataloader = dict(batch_size=32)
model = dict(
    tuner=dict(
        template="X X X X {} texture.",
        teacher_template="a photo of a {}, a type of texture.",
    )
)
