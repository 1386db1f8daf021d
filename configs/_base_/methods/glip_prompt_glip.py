# GLIP's prompt tuning: an offset per caption position.
tuner = dict(_delete_=True, type="mmsdpt.GLIPPrompt")
# Rate and decay of GLIP's released code.
optimizer = dict(lr=0.05, weight_decay=0.25)
