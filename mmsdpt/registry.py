"""Child registries of MMEngine's, scope ``mmsdpt``: write ``type='mmsdpt.SDPT'`` in a config of any
scope.
"""

from mmengine import registry as parents
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope="mmsdpt", locations=list(locations))


MODELS = _child("model", parents.MODELS, "mmsdpt.hosts", "mmsdpt.tuners")
DATASETS = _child("dataset", parents.DATASETS, "mmsdpt.datasets")
TRANSFORMS = _child("transform", parents.TRANSFORMS, "mmsdpt.datasets")
DATA_SAMPLERS = _child("data sampler", parents.DATA_SAMPLERS, "mmsdpt.datasets")
METRICS = _child("metric", parents.METRICS, "mmsdpt.evaluation")
HOOKS = _child("hook", parents.HOOKS, "mmsdpt.engine")
RUNNERS = _child("runner", parents.RUNNERS, "mmsdpt.engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", parents.OPTIM_WRAPPER_CONSTRUCTORS, "mmsdpt.engine"
)
FUNCTIONS = _child("function", parents.FUNCTIONS, "mmsdpt.engine")
VISUALIZERS = _child("visualizer", parents.VISUALIZERS, "mmsdpt.visualization")
WEIGHT_INITIALIZERS = _child("weight initializer", parents.WEIGHT_INITIALIZERS, "mmsdpt.hosts")
