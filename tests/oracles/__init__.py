"""Plain statements of what the package computes fast, from the papers' formulas: one image, one
text, one head at a time. Parameters are read from a model; meant for float64.
"""
