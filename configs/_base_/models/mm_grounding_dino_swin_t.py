# MM-Grounding-DINO with Swin-T as a host: grounding_dino_swin_t.py with what MMDetection's file for
# it changes: the head, the label embeddings of the denoising queries, and test images by pillow.
_base_ = "grounding_dino_swin_t.py"

load_from = (
    "checkpoints/grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det"
    "_20231204_095047-b448804b.pth"
)
model = dict(
    bbox_head=dict(num_classes=256, contrastive_cfg=dict(log_scale="auto", bias=True)),
)

test_pipeline = _base_.test_pipeline
test_pipeline[0].imdecode_backend = test_pipeline[1].backend = "pillow"
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
