# Pipelines at mini GLIP's size, with what GLIP's weights expect: pixels decoded by pillow, boxes
# that end one pixel earlier.
meta_keys = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "text",
    "custom_entities",
)
resize = dict(type="FixScaleResize", scale=(224, 224), keep_ratio=True, backend="pillow")
train_pipeline = [
    dict(type="LoadImageFromFile", imdecode_backend="pillow"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="GTBoxSubOne_GLIP"),
    resize,
    dict(type="RandomFlip_GLIP", prob=0.5),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs", meta_keys=(*meta_keys, "flip", "flip_direction")),
]
test_pipeline = [
    dict(type="LoadImageFromFile", imdecode_backend="pillow"),
    resize,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=meta_keys),
]
