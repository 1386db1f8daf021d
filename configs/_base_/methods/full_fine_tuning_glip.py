# Full fine-tuning of GLIP.
tuner = dict(_delete_=True, type="mmsdpt.FullFineTuning")
# Rate and decay of MMDetection's fine-tuning configs.
optimizer = dict(lr=2e-5, weight_decay=0.05)
