# GLIP-L with the Adapter of COCO, frozen, and SDPT of Aquarium, tested on COCO: give
# tools/test.py the file of slot new.
# Tokens leave words of other tasks alone; own_words_only=False is the poster's.
_base_ = "../sdpt/glip_l_coco_k10.py"

model = dict(
    tuner=None,
    tuners=dict(
        old=dict(type="mmsdpt.Adapter", bottleneck=64, frozen=True),
        new=dict(type="mmsdpt.SDPT", num_tokens=10, own_words_only=True),
    ),
)
tuner_files = dict(old="work_dirs/adapter_glip_l_coco/best_tuner.safetensors")
