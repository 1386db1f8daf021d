"""A trained method, tested on the full test set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmsdpt.hosts.seams import ForwardState

from .images import TestImages

_OF_IMAGES = ("image_embeddings", "image_blocks", "pooled_image", "parameters")


@torch.no_grad()
def evaluate_host(host: nn.Module, cfg: Mapping[str, Any], images: TestImages) -> dict[str, Any]:
    """Accuracy and alignment.

    Args:
        host: The model, in eval mode.
        cfg: Config with ``test_evaluator`` and the data set's ``template``, if it is another than
            the usual one.
        images: The test set.

    Returns:
        ``accuracy`` in percent, at full precision; ``correct``, ``total`` and ``num_classes``;
        ``matched``, ``unmatched``, ``margin`` and ``gap`` of
        :mod:`mmsdpt.evaluation.alignment`; ``test_seconds``.
    """
    started = time.perf_counter()
    metainfo = images.dataset.metainfo
    template = cfg["test_dataloader"]["dataset"].get("template") or metainfo["template"]
    host.set_classes(metainfo["classes"], template)
    metrics = list(cfg["test_evaluator"])
    if len(metainfo["classes"]) < 2:
        metrics = [each for each in metrics if each["type"] != "mmsdpt.AlignmentMetric"]
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = metainfo
    for batch, predictions in _predictions(host, images):
        evaluator.process(data_samples=predictions, data_batch=batch)
    found = evaluator.evaluate(len(images))
    # The metric divides in float32.
    correct = round(found["accuracy/top1"] / 100 * len(images))
    measures = {
        name.partition("/")[2]: value
        for name, value in found.items()
        if name.startswith("alignment/")
    }
    return dict(
        accuracy=100 * correct / len(images),
        correct=correct,
        total=len(images),
        num_classes=len(metainfo["classes"]),
        **measures,
        test_seconds=time.perf_counter() - started,
    )


def _predictions(
    host: nn.Module, images: TestImages
) -> Iterator[tuple[dict[str, Any], list[DataSample]]]:
    """Batches and the predictions for them.

    Where no tuner acts on the images, their features are those of the plain model, computed once
    for all such methods.
    """
    if any(seam.active() for kind in _OF_IMAGES for seam in host.seams().get(kind, ())):
        for batch in images.batches():
            yield batch, host.test_step(batch)
        return
    if images.features is None:
        images.features = pooled_features(host, images)
    start = 0
    for samples in images.samples():
        stop = start + len(samples)
        features = images.features[start:stop]
        yield dict(data_samples=samples), host.predict_from_features(features, samples)
        start = stop


@torch.no_grad()
def pooled_features(host: nn.Module, images: TestImages) -> Tensor:
    """Image features (N, e) of all images, not normalised."""
    features = []
    for batch in images.batches():
        pixels = host.data_preprocessor(batch, False)["images"]
        state = ForwardState(images=pixels)
        host.encode_image(pixels, state)
        features.append(state.pooled_image)
    return torch.cat(features)
