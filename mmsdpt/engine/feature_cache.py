"""``feature_cache = dict(...)`` in a config: compute frozen features only once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmsdpt.hosts.stages import DTYPES, StageCache, trained_in
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.feature_store import FeatureStore

from .views import Views

DRAWN = "drawn"


@dataclass(frozen=True)
class FeatureCacheSettings:
    """The settings of ``feature_cache`` in a config.

    Args:
        views: K fixed random views of each training image; None: the pipeline is not random.
            ``"drawn"``: views are redrawn each time, as without the cache, and cached features
            are used if the pixels are the same, for example if only a flip is random.
        seed: Seed of the views; all runs with the same seed share them.
        folder: Folder to share features with other processes and runs; None: memory only.
        memory_gb: Limit of the memory, in 10^9 bytes.
        max_gb: Limit of the folder.
        dtype: ``bfloat16`` or ``float16`` stores rounded values; None: as computed.
        keep: False draws the same views without caching features, for comparison.

    Raises:
        InputError: for an invalid value.
    """

    views: int | Literal["drawn"] | None = None
    seed: int = 0
    folder: str | os.PathLike | None = None
    memory_gb: float = 1.0
    max_gb: float = 20.0
    dtype: str | None = None
    keep: bool = True

    def __post_init__(self) -> None:
        for name, least in (("views", 1), ("seed", 0)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value in (None, DRAWN) and name == "views" or whole and value >= least:
                continue
            raise InputError(f"feature_cache.{name} must be an integer >= {least}, got {value!r}")
        for name in ("memory_gb", "max_gb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise InputError(f"feature_cache.{name} must be a number of GB, got {value!r}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise InputError(
                f"feature_cache.dtype must be {' or '.join(DTYPES)}, or None for what was computed,"
                f" got {self.dtype!r}"
            )

    @classmethod
    def of(cls, cfg: Any) -> FeatureCacheSettings:
        """From a config.

        Raises:
            InputError: for an unknown key.
        """
        if not isinstance(cfg, Mapping):
            raise InputError(f"feature_cache must be dict(views=...) or None, got {cfg!r}")
        known = [each.name for each in fields(cls)]
        for name in cfg:
            if name not in known:
                raise InputError(
                    f"feature_cache has no key {name!r}; its keys are {', '.join(known)}"
                )
        return cls(**cfg)

    def store(self) -> FeatureStore:
        """The store for these settings."""
        return FeatureStore(self.memory_gb, self.folder, self.max_gb)


class FeatureCache(Hook):
    """Lets a host cache the outputs of its frozen stages, and its training draw fixed views.

    Args:
        cfg: The run's ``feature_cache``.
        host: The run's model.
        store: A store that several runs share.

    Raises:
        InputError: if a setting is wrong, or the host has no stages.
    """

    priority = "VERY_HIGH"  # other hooks must see complete samples

    def __init__(self, cfg: Any, host: nn.Module, store: FeatureStore | None = None) -> None:
        self.settings = settings = FeatureCacheSettings.of(cfg)
        if not getattr(host, "stages", tuple)():
            raise InputError(
                f"feature_cache needs a host with frozen stages, but {type(host).__name__} has"
                " none: remove it from the config"
            )
        self.host = host
        self.stages: StageCache | None = None
        self._views: Views | None = None
        if settings.keep:
            dtype = DTYPES[settings.dtype] if settings.dtype else None
            self.stages = StageCache(host, store or settings.store(), dtype)
            self.stages.store.begin_run()
            host.keep_features(self.stages)

    def views(self, loader: DataLoader) -> Views | None:
        """The fixed views of a training loader, if enabled."""
        if self.settings.views == DRAWN:
            return None
        wanted = None
        if (stages := self.stages) is not None:
            wanted = lambda: stages.on.get("image", False)  # noqa: E731
        settings, preprocess = self.settings, _preprocess(self.host)
        self._views = Views(loader, settings.views, settings.seed, preprocess, wanted)
        return self._views

    def before_train(self, runner: Runner) -> None:
        """Disable stages with trainable parameters, which change at every step."""
        for stage in self.host.stages() if self.stages is not None else ():
            if name := trained_in(self.host, stage):
                self.stages.switch_off(stage.name, f"{name} trains")

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Restore the parts that were left out of the samples."""
        if self._views is not None and not self._views.recognise(data_batch) and self.stages:
            self.stages.switch_off(
                "image",
                "the training pipeline is random: set feature_cache.views to the number of views of"
                " each image",
            )

    def after_train(self, runner: Runner) -> None:
        """Log how often the cache was used."""
        if self.stages is None:
            return
        for name in sorted({*self.stages.found, *self.stages.computed}):
            print_log(
                f"Feature cache: {self.stages.computed[name]} {name} features were computed,"
                f" {self.stages.found[name]} were found in the cache",
                "current",
            )


def _preprocess(host: nn.Module) -> Callable[[dict], Tensor] | None:
    """Preprocess a batch as the host does; None if the pixels depend on the batch."""
    preprocessor = host.data_preprocessor
    if getattr(preprocessor, "batch_augments", None):
        return None

    def run(batch: dict) -> Tensor:
        data = preprocessor(batch, True)
        return data["images"] if "images" in data else data["inputs"]

    return run
