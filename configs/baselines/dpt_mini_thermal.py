# DPT on mini GLIP and the "thermal" task: 16 context vectors, 10 prompts per early block and 10
# class-aware ones per late block, 89,728 parameters.
_base_ = "../mini/sdpt_mini_thermal.py"

model = dict(
    tuner=dict(
        _delete_=True, type="mmsdpt.DPT", num_context=16, num_visual=10, num_class_prompts=10
    )
)

# The best of the rates 3e-3, 3e-2 and 3e-1 on the val split.
optim_wrapper = dict(optimizer=dict(lr=3e-2, weight_decay=5e-4))
