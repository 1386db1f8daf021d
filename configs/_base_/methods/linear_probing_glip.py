# Linear probing for GLIP: the prediction layers of the head.
tuner = dict(_delete_=True, type="mmsdpt.LinearProbing")
# Rate and decay of GLIP's own fine-tuning.
optimizer = dict(lr=1e-4, weight_decay=0.05)
