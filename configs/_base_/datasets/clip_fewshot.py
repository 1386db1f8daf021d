# What all CLIP datasets share: CLIP's pixels, CoOp's augmentation, 16 images of each class.
# A child says what differs with one dict for its three loaders:
#   size = dict(image_size=64)
#   train_dataloader = dict(dataset=size)
#   val_dataloader = dict(dataset=size)
#   test_dataloader = dict(dataset=size)
# The dataset puts its image_size where a pipeline has the word "image_size".
data_root = "data/"

resize = dict(backend="pillow", interpolation="bicubic")
train_pipeline = [
    dict(type="mmsdpt.LoadPillowImage"),
    dict(type="RandomResizedCrop", scale="image_size", crop_ratio_range=(0.08, 1.0), **resize),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="mmsdpt.LoadPillowImage"),
    dict(type="ResizeEdge", scale="image_size", edge="short", **resize),
    dict(type="CenterCrop", crop_size="image_size"),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    # CLIP's data preprocessor turns BGR into RGB only in a batch that is one tensor.
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mmsdpt.ClassificationData",
        data_root=data_root,
        split="train",
        shots=16,
        seed=1,
        image_size=224,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmsdpt.ClassificationData",
        data_root=data_root,
        split="val",
        shots=16,  # min(shots, 4) of each class
        seed=1,
        image_size=224,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmsdpt.ClassificationData",
        data_root=data_root,
        split="test",
        image_size=224,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = dict(type="Accuracy", topk=(1,))
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
