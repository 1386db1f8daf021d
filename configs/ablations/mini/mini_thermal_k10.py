# SDPT on mini GLIP and the "thermal" task, k = 10: 7,680 parameters.
_base_ = "../../mini/sdpt_mini_thermal.py"
