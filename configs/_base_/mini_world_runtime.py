# The runtime of configs on drawn scenes, which also registers the data sets of projects/mini_world.
_base_ = "default_runtime.py"
custom_imports = dict(imports=[*_base_.custom_imports.imports, "projects.mini_world"])
