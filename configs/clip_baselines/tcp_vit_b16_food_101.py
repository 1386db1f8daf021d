# TCP on CLIP ViT-B/16 and Food-101, 16 images per class: 331,904 parameters.
_base_ = ["../_base_/methods/tcp_vit_b16.py", "../_base_/datasets/clip_food_101.py"]

train_dataloader = dict(batch_size=32)
model = dict(
    tuner=dict(
        template="X X X X {}, a type of food.",
        teacher_template="a photo of a {}, a type of food.",
    )
)
