"""The step benchmark, and the plain forms that it compares ours with."""
