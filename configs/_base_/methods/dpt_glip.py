# DPT for GLIP: 16 context vectors, 10 prompts per early block and 10 class-aware ones per late
# block.
tuner = dict(_delete_=True, type="mmsdpt.DPT", num_context=16, num_visual=10, num_class_prompts=10)
# The authors' rate for the context (SGD there), and CoOp's decay.
optimizer = dict(lr=2e-3, weight_decay=5e-4)
