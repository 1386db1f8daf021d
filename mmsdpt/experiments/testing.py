"""Test a model on cached images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator
from torch import Tensor, nn

from mmsdpt.engine.data_checks import warn_of_other_numbers
from mmsdpt.engine.state import is_score
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.utils.data_files import check_evaluator_files
from mmsdpt.utils.errors import InputError

from .images import DatasetCache, TestImages, quiet
from .jobs import Test, base_digest, digest, scope

_OF_IMAGES = (
    *("image_embeddings", "image_blocks", "image_projections", "image_block_branches"),
    *("pooled_image", "parameters"),
)


@torch.no_grad()
def evaluate(host: nn.Module, cfg: ConfigDict, images: TestImages) -> dict[str, float]:
    """Metrics of ``test_evaluator`` for a model in eval mode, with the tuners that are on: accuracy
    in percent at full precision, with ``correct``, ``total`` and ``num_classes``. In detection,
    classes without boxes have no score, and undetected ones have 0.
    """
    name_classes(host, cfg, images)
    metainfo = images.dataset.metainfo
    evaluator = build_evaluator(cfg, metainfo)
    features = kept_features(host, cfg, images) if leaves_images_alone(host) else None
    with quiet():
        for batch, samples in predict(host, images, features):
            evaluator.process(data_samples=samples, data_batch=batch)
        for metric in evaluator.metrics:
            if isinstance(metric, CocoMetric):
                _let_nothing_be_scored(metric)
        scores = evaluator.evaluate(len(images))
    found: dict[str, float] = {}
    for name, value in scores.items():
        if name == "accuracy/top1":  # the metric divides in float32
            correct = round(float(value) / 100 * len(images))
            found.update(accuracy=100 * correct / len(images), correct=correct, total=len(images))
            found["num_classes"] = len(metainfo["classes"])
        else:
            found[name.removeprefix("alignment/")] = float(value)
    undefined = [name for name, value in found.items() if not is_score(value)]
    if undefined and "accuracy" in found:
        raise InputError(
            f"the test gives NaN for {', '.join(undefined)}: try a lower learning rate"
        )
    return {name: value for name, value in found.items() if name not in undefined}


def _let_nothing_be_scored(metric: CocoMetric) -> None:
    """If there are no detections, add one of size 0 and score 0, as COCO's tools refuse an empty
    list. It matches nothing, so the AP is 0, or -1 if there are no true boxes.
    """
    if metric.results and not any(len(found["scores"]) for _, found in metric.results):
        nothing = dict(bboxes=np.zeros((1, 4)), scores=np.zeros(1), labels=np.zeros(1, dtype=int))
        metric.results[0][1].update(nothing)


def build_evaluator(cfg: ConfigDict, metainfo: Mapping[str, Any]) -> Evaluator:
    """Build the metrics of ``test_evaluator`` for a test set."""
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    if len(metainfo["classes"]) < 2:
        metrics = [each for each in metrics if each["type"] != "mmsdpt.AlignmentMetric"]
    check_evaluator_files(metrics)
    with quiet():
        evaluator = Evaluator([dict(each) for each in metrics])
    evaluator.dataset_meta = metainfo
    return evaluator


def warn_of_other_images(tests: Iterable[Test], cache: DatasetCache) -> None:
    """Warn, once per test set, if its metrics have boxes of other images."""
    seen = set()
    for test in tests:
        cfg = ConfigDict(test.config)
        key = str((cfg.test_dataloader.dataset, cfg.test_evaluator))
        if key not in seen:
            seen.add(key)
            with scope(test.config):
                dataset = cache.test_images(cfg.test_dataloader).dataset
                evaluator = build_evaluator(cfg, dataset.metainfo)
            warn_of_other_numbers(f"{test.cell.data}: the test dataset", dataset, evaluator)


def name_classes(host: nn.Module, cfg: ConfigDict, images: TestImages) -> None:
    """Set the class names of a classifier; a detector gets them with the images."""
    if hasattr(host, "set_classes"):
        metainfo = images.dataset.metainfo
        template = cfg.test_dataloader.dataset.get("template") or metainfo["template"]
        host.set_classes(metainfo["classes"], template)


def leaves_images_alone(host: nn.Module) -> bool:
    """Whether no tuner acts on image features, and the host can predict from them."""
    return hasattr(host, "predict_from_features") and not any(
        seam.active() for kind in _OF_IMAGES for seam in host.seams().get(kind, ())
    )


@torch.no_grad()
def predict(
    host: nn.Module, images: TestImages, features: Tensor | None, limit: int | None = None
) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Batches and their predictions, of ``limit`` images or all. If no tuner acts on the images,
    they are computed from ``features`` (N, e), which are shared by all such methods.
    """
    start = 0
    for batch in images.batches(pixels=features is None):
        samples = batch["data_samples"]
        stop = start + len(samples)
        if features is None:
            yield batch, host.test_step(batch)
        else:
            yield batch, host.predict_from_features(features[start:stop], samples)
        start = stop
        if limit is not None and start >= limit:
            return


@torch.no_grad()
def batch_features(
    host: nn.Module, images: TestImages, limit: int | None = None
) -> Iterator[Tensor]:
    """Unnormalised image features (n, e) of each batch, of ``limit`` images or all."""
    done = 0
    for batch in images.batches():
        pixels = host.data_preprocessor(batch, False)["images"]
        state = ForwardState(images=pixels)
        host.encode_image(pixels, state)
        yield state.pooled_image
        done += len(pixels)
        if limit is not None and done >= limit:
            return


def pooled_features(host: nn.Module, images: TestImages) -> Tensor:
    """Image features (N, e) of all images."""
    return torch.cat(list(batch_features(host, images)))


def kept_features(host: nn.Module, cfg: ConfigDict, images: TestImages) -> Tensor:
    """Image features (N, e) of all images, computed once for each model without its tuners."""
    model = {name: value for name, value in cfg.model.items() if name != "tuners"}
    # Stages may cache their outputs in another dtype.
    dtype = (cfg.get("feature_cache") or {}).get("dtype")
    base = base_digest(cfg.load_from)
    key = digest(dict(model=model, base=base, dtype=dtype, computed=cfg.get("encoder_dtype")))
    if key not in images.features:
        images.features[key] = pooled_features(host, images)
    return images.features[key]
