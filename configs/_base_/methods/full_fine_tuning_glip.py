# Full fine-tuning of GLIP.
tuner = dict(_delete_=True, type="mmsdpt.FullFineTuning")
# Rate and decay of MMDetection's fine-tuning configs, which spare norms and Swin's position biases.
optimizer = dict(lr=2e-5, weight_decay=0.05)
paramwise_cfg = dict(
    custom_keys={
        name: dict(decay_mult=0.0)
        for name in ("absolute_pos_embed", "relative_position_bias_table", "norm")
    }
)
