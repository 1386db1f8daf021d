"""Check the detection benchmarks' data on disk: files, counts, classes, images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmsdpt.utils.detection_benchmarks import (
    SPLITS,
    DetectionBenchmark,
    benchmark_names,
    find_benchmark,
)
from mmsdpt.utils.errors import listed

from .classification.doctor import SHOWN, Finding
from .coco_checks import check_coco
from .image_files import inspect_images

_EVERY_IMAGE = 10**9


def present_benchmarks(data_root: str | Path) -> list[str]:
    """The detection benchmarks whose folders exist; members of collections by folder name."""
    names: dict[str, str] = {}
    for name in benchmark_names():
        for each in _members(name, Path(data_root)):
            benchmark = find_benchmark(each)
            if any(_annotations(benchmark, data_root, split).is_file() for split in SPLITS):
                names.setdefault(f"{benchmark.root} {benchmark.files}", each)
    return list(names.values())


def _members(name: str, data_root: Path) -> list[str]:
    suite, _, member = name.partition("/")
    if member != "FOLDER":
        return [name]
    folder = data_root / Path(find_benchmark(name).root).parent
    if not folder.is_dir():
        return []
    return [f"{suite}/{each.name}" for each in sorted(folder.iterdir()) if each.is_dir()]


def _annotations(benchmark: DetectionBenchmark, data_root: str | Path, split: str) -> Path:
    return Path(data_root) / benchmark.root / benchmark.files[split][0]


def examine_detection(
    name: str,
    data_root: str | Path,
    check_images: bool = False,
    advance: Callable[[int], object] | None = None,
) -> Finding:
    """Check one detection benchmark.

    Args:
        name: As ``benchmark`` in a config.
        advance: Called with the number of images of each finished split.

    Raises:
        InputError: if there is no such benchmark.
    """
    benchmark = find_benchmark(name)
    root = Path(data_root) / benchmark.root
    if not root.is_dir():
        sentence = f"the folder {root} is missing; download {benchmark.source}"
        return Finding(name, there=False, problems=[sentence])
    finding = Finding(name)
    seen: dict[tuple[str, str], str] = {}
    for split in SPLITS:
        same = seen.setdefault(benchmark.files[split], split)
        if same != split:
            if same in finding.counts:
                finding.counts[split] = finding.counts[same]
            continue
        _examine_split(finding, benchmark, root, split, check_images)
        if advance is not None:
            advance(finding.counts.get(split, 0))
    return finding


def _examine_split(
    finding: Finding, benchmark: DetectionBenchmark, root: Path, split: str, check_images: bool
) -> None:
    annotations, images = (root / path for path in benchmark.files[split])
    if not annotations.is_file():
        finding.problems.append(f"the file {annotations} is missing; download {benchmark.source}")
        return
    if not images.is_dir():
        finding.problems.append(f"the folder {images} is missing; download {benchmark.source}")
    if "LVIS" in benchmark.type:
        content = _lvis(finding, annotations, images, split, check_images)
    else:
        report = check_coco(annotations, images, _EVERY_IMAGE if check_images else 0)
        content = report.content
        told = [each for k in ("errors", "left_out", "doubtful") for each in report.sentences(k)]
        finding.problems += [f"{annotations}: {sentence}" for sentence in told]
        if not report.errors:
            _compare_names(finding, benchmark, annotations, tuple(report.names))
    if not isinstance(content.get("images"), list):
        return
    finding.counts[split] = count = len(content["images"])
    expected = benchmark.counts.get(split)
    if expected is not None and count != expected:
        finding.problems.append(f"{count:,} {split} images instead of {expected:,}")


def _compare_names(
    finding: Finding, benchmark: DetectionBenchmark, path: Path, names: tuple[str, ...]
) -> None:
    finding.num_classes = max(finding.num_classes or 0, len(names))
    if benchmark.classes is None or names == benchmark.classes:
        return
    lacking = [repr(name) for name in benchmark.classes if name not in names]
    if lacking:
        finding.problems.append(
            f"{path} has no category {listed(lacking, SHOWN)}; it has"
            f" {listed(map(repr, names), SHOWN)}: it is another version of the data"
        )


def _lvis(
    finding: Finding, path: Path, images: Path, split: str, check_images: bool
) -> dict[str, Any]:
    """LVIS names images by their COCO URL, and has classes without boxes."""
    try:
        content = json.loads(path.read_bytes())
        names = [each["coco_url"].split("/", 3)[3] for each in content["images"]]
        finding.num_classes = len(content["categories"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        finding.problems.append(f"{path} is not an annotation file of LVIS: {error!r}")
        return {}
    missing = [repr(name) for name in names if not (images / name).is_file()]
    if missing:
        finding.problems.append(
            f"{len(missing):,} of {len(names):,} {split} images are missing:"
            f" {listed(missing, SHOWN)}"
        )
    if check_images and not missing:
        for file, facts in inspect_images([images / name for name in names]).items():
            if isinstance(facts, Exception):
                finding.problems.append(f"{file} cannot be read: {facts}")
    return content
