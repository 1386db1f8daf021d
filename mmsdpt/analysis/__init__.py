"""Tuned models beside the untuned ones: what they detect, and where their attention goes."""
