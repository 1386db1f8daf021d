"""Comparison of tuned and untuned models: predictions and attention maps."""
