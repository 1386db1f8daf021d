# UPT for GLIP: n = 4 prompts per encoder from one set.
tuner = dict(_delete_=True, type="mmsdpt.UPT", num_tokens=4)
# The authors' rate (SGD there), and CoOp's decay.
optimizer = dict(lr=2e-3, weight_decay=5e-4)
