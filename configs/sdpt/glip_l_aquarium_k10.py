# SDPT on GLIP-L and Aquarium of ODinW13, the dataset of the poster's ablations, without GLIP's
# caption prompts.
_base_ = "glip_l_own_data_k10.py"

benchmark = dict(name="odinw13/Aquarium", captions=False)
