# The runtime of configs on drawn scenes: the data sets of projects/mini_world are registered, too.
_base_ = "default_runtime.py"
custom_imports = dict(imports=[*_base_.custom_imports.imports, "projects.mini_world"])
