# SDPT on mini GLIP and the "thermal" task, k = 200, the text's tokens hidden from the image queries
# as in the authors' released code: 153,600 parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"

model = dict(tuner=dict(num_tokens=200, mask_text_tokens=True))
