"""Export a tuned model to an ONNX file, and compare the file with the model.

The graph is traced (``torch.onnx.export(dynamo=False)``). This works in the same way in all
supported versions of PyTorch and allows images of any size. ``torch.export`` with symbolic sizes
took many times longer even for the smallest model.
"""

from __future__ import annotations

import io
import json
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import nn

from mmsdpt.apis import Classifier, Detector
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.data_files import kind_of, loads_image
from mmsdpt.utils.errors import InputError
from mmsdpt.version import __version__

OPSET = 17
FORMAT = "2"
_CANVAS = (124, 117, 104)  # as in mmcv.imfrombytes with pillow
_MOST_BYTES = 2**31 - 1  # limit of a protocol buffer


def export_onnx(
    model: Detector | Classifier,
    path: str | Path,
    classes: Sequence[str] | None = None,
    template: str | Sequence[str] | None = None,
) -> Path:
    """Export a model with its enabled tuners, for a fixed list of classes.

    Args:
        model: A model on the CPU.
        path: The file; :class:`mmsdpt.export.onnx_runtime.OnnxModel` runs it.
        classes: Names; by default the training classes.
        template: CLIP's template, as for :class:`~mmsdpt.apis.Classifier`.

    Raises:
        InputError: if the model cannot be exported, with the reason.
    """
    try:
        import onnx
    except ImportError:
        raise InputError(
            'the export needs packages that are not installed: pip install "mmsdpt[onnx]"'
        ) from None
    if model.device.type != "cpu":
        raise InputError(f"the export needs a model on the CPU, but it is on {model.device}")
    names = list(model._names(classes))
    reading, resize = _reading(model), _resizing(model)
    make: Any = _detector if isinstance(model, Detector) else _classifier
    content: bytes = make(model, names, template, resize)
    if len(content) > _MOST_BYTES:
        raise InputError(
            f"the model has {len(content):,} bytes, but an ONNX file holds at most 2 GiB"
        )
    written = onnx.load_from_string(content)
    del written.graph.value_info[:]  # sizes of the traced image are wrong for others
    facts = dict(
        mmsdpt_format=FORMAT,
        mmsdpt_version=__version__,
        kind="detector" if isinstance(model, Detector) else "classifier",
        classes=json.dumps(names, ensure_ascii=False),
        reading=json.dumps(reading),
        resize=json.dumps(resize),
        tuners=json.dumps({slot: type(t).__name__ for slot, t in _acting(model).items()}),
    )
    for key, value in facts.items():
        written.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(written)
    write_atomically(path, written.SerializeToString())
    return Path(path)


def _acting(model: Detector | Classifier) -> dict[str, nn.Module]:
    return {slot: tuner for slot, tuner in model.model.tuners.items() if tuner.enabled}


def _reading(model: Detector | Classifier) -> dict[str, Any]:
    """How image files are decoded: ``upright``, whether EXIF rotates them; ``canvas``, the
    background of a grey image with transparency, None if that is dropped.

    Raises:
        InputError: if the pipeline does not load RGB.
    """
    if isinstance(model, Classifier):
        return dict(upright=False, canvas=None)
    loader = next(filter(loads_image, model.recipe.pipeline))
    colour = loader.get("color_type", "color")
    if colour not in ("color", "color_ignore_orientation"):
        raise InputError(f"the export supports only images in colour, not color_type={colour!r}")
    by_pillow = loader.get("imdecode_backend") == "pillow"
    return dict(upright=colour == "color", canvas=_CANVAS if by_pillow else None)


def _resizing(model: Detector | Classifier) -> dict[str, Any]:
    """The preprocessing of an image before it enters the graph.

    Raises:
        InputError: if the runtime does not support it.
    """
    steps = [
        (kind_of(step), step)
        for step in model.recipe.pipeline
        if not loads_image(step) and kind_of(step) not in ("PackDetInputs", "PackInputs")
    ]
    wrong = InputError(
        "the export supports the test pipelines of GLIP (FixScaleResize with keep_ratio, by"
        " pillow) and CLIP (ResizeEdge and CenterCrop, bicubic by pillow), but this one is"
        f" {', '.join(name for name, _ in steps) or 'empty'}"
    )
    if not steps or any(step.get("backend", "pillow") != "pillow" for _, step in steps):
        raise wrong
    first, last = steps[0], steps[-1]
    if isinstance(model, Detector):
        kept = first[1].get("keep_ratio") and "backend" in first[1]
        if len(steps) != 1 or first[0] != "FixScaleResize" or not kept:
            raise wrong
        return dict(within=list(map(int, first[1]["scale"])))
    side: Any = first[1].get("scale")
    same = last[1].get("crop_size") in (side, (side, side))
    edge = (first[1].get("edge", "short"), first[1].get("interpolation"), first[1].get("backend"))
    if [name for name, _ in steps] != ["ResizeEdge", "CenterCrop"] or not same:
        raise wrong
    if edge != ("short", "bicubic", "pillow"):
        raise wrong
    return dict(side=int(side))


def _detector(model: Detector, names: list[str], template: Any, resize: Mapping[str, Any]) -> bytes:
    from .glip_parts import KnownShapes
    from .graphs import DetectorGraph

    if template:
        raise InputError("a template is for CLIP, but this model is a detector")
    if model.recipe.model["type"] != "mmsdpt.GLIP":
        raise InputError(f"the export supports GLIP and CLIP, not {model.recipe.model['type']}")
    model.model.check_class_names(names, "the export", strict=False)
    graph = DetectorGraph(model.model, names, model.recipe.captions)
    short, long = sorted(resize["within"])
    # Sides of different length, so that mixing them up gives an error.
    image = torch.randint(0, 256, (short, min(long, short * 5 // 4), 3), dtype=torch.uint8)
    if short == long:
        image = image[: short * 3 // 4]
    with KnownShapes():
        return _trace(
            graph,
            (image, torch.tensor(image.shape[:2])),
            ["image", "original_size"],
            ["boxes", "scores", "labels"],
            dict(
                image={0: "height", 1: "width"},
                boxes={0: "found"},
                scores={0: "found"},
                labels={0: "found"},
            ),
        )


def _classifier(
    model: Classifier, names: list[str], template: Any, resize: Mapping[str, Any]
) -> bytes:
    from .graphs import ClassifierGraph

    depends = [slot for slot, t in _acting(model).items() if t.text_depends_on_image]
    if depends:
        raise InputError(
            f"the text features of the tuner {depends[0]!r} depend on the image, but in a file"
            " they are constants: it cannot be exported"
        )
    model._set(names, template)
    side = resize["side"]
    images = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    batch = {0: "batch"}
    return _trace(
        ClassifierGraph(model.model),
        (images,),
        ["images"],
        ["logits", "scores"],
        dict(images=batch, logits=batch, scores=batch),
    )


@torch.no_grad()
def _trace(
    graph: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    free: Mapping[str, Mapping[int, str]],
) -> bytes:
    graph.eval()
    graph(*inputs)  # fills the caches, whose values are then constant in the graph
    content = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter warns about itself, the tracer about values that are really constant here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            inputs,
            content,
            dynamo=False,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            dynamic_axes=free,
        )
    return content.getvalue()


# ---------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class Comparison:
    """Result of comparing a file with its model.

    Attributes:
        images: Number of images compared.
        results: Number of boxes, or probabilities, of the model.
        missing: Boxes that only one of the two found, due to rounding at a threshold.
        score: Largest difference of scores.
        box: Largest difference of boxes in pixels.
        seconds: CPU time of the file on all images, from pixels to results.
        model_seconds: The same for the model.
    """

    images: int
    results: int
    missing: int
    score: float
    box: float
    seconds: float
    model_seconds: float

    def __str__(self) -> str:
        found = f", boxes by {self.box:.1e} pixels" if self.box else ""
        missing = (
            f"; {self.missing} boxes were found by only one of the two" if self.missing else ""
        )
        return (
            f"{self.images} images, {self.results} results: scores differ by {self.score:.1e} at"
            f" most{found}{missing}; {self.seconds:.2f} s of processor time, PyTorch"
            f" {self.model_seconds:.2f} s"
        )


def compare(
    model: Detector | Classifier,
    path: str | Path,
    images: Sequence[Any],
    template: str | Sequence[str] | None = None,
) -> Comparison:
    """Run a file and its model on the same images, with the same number of threads.

    Args:
        model: The model in the state that was exported.
        path: The file.
        images: Paths, arrays or PIL images. Unusable images are listed in a warning.
        template: See :func:`export_onnx`.

    Raises:
        InputError: if no image can be used.
    """
    from .onnx_runtime import OnnxModel

    file = OnnxModel(path, threads=torch.get_num_threads())
    detects = isinstance(model, Detector)
    options: dict[str, Any] = dict(threshold=0) if detects else dict(template=template)
    differences, results, missing, compared = [(0.0, 0.0)], 0, 0, 0
    seconds = [0.0, 0.0]

    def timed(which: int, run: Any, *args: Any, **options: Any) -> Any:
        start = time.process_time()
        found = run(*args, **options)
        seconds[which] += time.process_time() - start
        return found

    def of_model(image: Any) -> Any:
        # As a list, so that skipped images are reported.
        return timed(1, model, [image], classes=file.classes, progress=False, **options)

    def of_file(image: Any) -> Any:
        return timed(0, file.boxes, image) if detects else timed(0, file.probabilities, [image])[0]

    for image in images:
        found = of_model(image)
        if not found:
            continue
        if not compared:  # the first run of both fills their caches
            of_file(image)
            seconds[:] = 0.0, 0.0
            found = of_model(image)
        compared += 1
        (expected,), other = found, of_file(image)
        if detects:
            boxes, scores, labels = other
            results += len(expected)
            pairs, alone = _pairs(expected.boxes, expected.labels, boxes, labels)
            missing += alone
            differences += [
                (
                    float(abs(expected.scores[i] - scores[j])),
                    float(abs(expected.boxes[i] - boxes[j]).max()),
                )
                for i, j in pairs
            ]
        else:
            results += len(expected.scores)
            differences.append((float(np.abs(other - expected.scores).max()), 0.0))
    if not compared:
        raise InputError(f"none of the {len(images)} images can be used for a comparison")
    score, box = map(max, zip(*differences, strict=True))
    if missing:
        print_log(f"{missing} boxes were found by only one of the two", "current", logging.WARNING)
    return Comparison(compared, results, missing, score, box, *seconds)


def _pairs(
    boxes: np.ndarray, labels: np.ndarray, others: np.ndarray, other_labels: np.ndarray
) -> tuple[list[tuple[int, int]], int]:
    """Pairs of boxes with the same label and place (within half a pixel); number of the others."""
    pairs, free = [], set(range(len(others)))
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        near = [(float(abs(others[j] - box).max()), j) for j in free if other_labels[j] == label]
        distance, j = min(near, default=(1.0, -1))
        if distance <= 0.5:
            pairs.append((i, j))
            free.remove(j)
    return pairs, len(boxes) + len(others) - 2 * len(pairs)
