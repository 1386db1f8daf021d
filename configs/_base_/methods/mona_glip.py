# Mona for GLIP: two adapters with bottlenecks of 64 in every image block.
tuner = dict(_delete_=True, type="mmsdpt.Mona", bottleneck=64)
# Rate and decay of the authors' COCO runs.
optimizer = dict(lr=1e-4, weight_decay=0.05)
