model = dict(tuner=dict(type="Any"))
