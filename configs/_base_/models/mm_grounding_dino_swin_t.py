# MM-Grounding-DINO with Swin-T as a host: grounding_dino_swin_t.py with what MMDetection's file for
# it changes, which is the head, and the label embeddings of the denoising queries.
_base_ = "grounding_dino_swin_t.py"

load_from = (
    "checkpoints/grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det"
    "_20231204_095047-b448804b.pth"
)
model = dict(
    bbox_head=dict(num_classes=256, contrastive_cfg=dict(log_scale="auto", bias=True)),
)
