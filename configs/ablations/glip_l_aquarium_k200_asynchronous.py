# SDPT on GLIP-L and Aquarium, k = 200, the sides train in alternating epochs: 3,276,800 parameters.
# Poster: 3.28 M. The poster does not say how long a side trains; here it is one epoch.
_base_ = "../sdpt/glip_l_aquarium_k10.py"

model = dict(tuner=dict(num_tokens=200))

# The sides take turns; see the hook.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="mmsdpt.AlternatingPhasesHook", by_epoch=True),
]
