# Mini GLIP with the Adapter of "thermal", frozen, and SDPT, which trains on "new_names": 7,680
# parameters.
# Tokens leave words of other tasks alone; own_words_only=False is the poster's.
_base_ = "adapter_mini_new_names.py"

model = dict(tuners=dict(new=dict(type="mmsdpt.SDPT", num_tokens=10, own_words_only=True)))
