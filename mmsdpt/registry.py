"""Child registries of MMEngine's, scope ``mmsdpt``: write ``type='mmsdpt.SDPT'`` in a config of any
scope.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope="mmsdpt", locations=list(locations))


MODELS = _child("model", MMENGINE_MODELS, "mmsdpt.hosts", "mmsdpt.tuners")
DATASETS = _child("dataset", MMENGINE_DATASETS, "mmsdpt.datasets")
TRANSFORMS = _child("transform", MMENGINE_TRANSFORMS, "mmsdpt.datasets")
DATA_SAMPLERS = _child("data sampler", MMENGINE_DATA_SAMPLERS, "mmsdpt.datasets")
METRICS = _child("metric", MMENGINE_METRICS, "mmsdpt.evaluation")
HOOKS = _child("hook", MMENGINE_HOOKS, "mmsdpt.engine")
RUNNERS = _child("runner", MMENGINE_RUNNERS, "mmsdpt.engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, "mmsdpt.engine"
)
FUNCTIONS = _child("function", MMENGINE_FUNCTIONS, "mmsdpt.engine")
VISUALIZERS = _child("visualizer", MMENGINE_VISUALIZERS, "mmsdpt.visualization")
WEIGHT_INITIALIZERS = _child("weight initializer", MMENGINE_WEIGHT_INITIALIZERS, "mmsdpt.hosts")

__all__ = [
    "MODELS",
    "DATASETS",
    "TRANSFORMS",
    "DATA_SAMPLERS",
    "METRICS",
    "HOOKS",
    "RUNNERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "FUNCTIONS",
    "VISUALIZERS",
    "WEIGHT_INITIALIZERS",
]
