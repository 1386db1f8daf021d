"""Mutated files end in a result or in one sentence: no traceback, no hang, no flood of memory.

``FUZZ_EXAMPLES`` is the number of mutations for each kind of file; ``make fuzz`` sets many. The
seeds are fixed: a failure comes back, and Hypothesis prints the smallest mutation that makes it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from PIL import Image

from mmsdpt.datasets.classification.tables import CsvFile, JsonFile
from mmsdpt.datasets.classification.transforms import LoadPillowImage
from mmsdpt.datasets.coco_checks import check_coco
from mmsdpt.datasets.converters import convert_voc, convert_yolo
from mmsdpt.engine.checkpoint_checks import check_contents, check_resumable
from mmsdpt.engine.state import random_state
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.base_weights import read_checkpoint
from mmsdpt.utils.errors import InputError
from tests.tuners.fusion_host import FusionHost

pytest.importorskip("hypothesis", reason="mutations are drawn by hypothesis, in the extra tests")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "50"))
MOST_SECONDS, MOST_BYTES = 2.0, 2**30
WORDS = (
    *(b"null", b"NaN", b"-1", b"1e999", b"[]", b"{}", b'""', b"\x00", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b"99999999999999999999", b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"&x;", b"]]>", b"\n"),
    *(b"true", b'"x"', b"../", b"%s", b"\xed\xa0\x80", b"0.5", b"\x80\x04", b"I1\n.", b"R.", b"PK"),
)


# ------------------------------------------------------------------ files and their readers


def make_host() -> FusionHost:
    torch.manual_seed(0)
    return FusionHost(tuner=dict(type="mmsdpt.SDPT", num_tokens=2))


def tuner_file(folder: Path) -> tuple[Path, Callable]:
    host = make_host()
    path = save_tuner(host, folder / "tuner.safetensors", extra=dict(classes=["cat", "dog"]))
    return path, lambda: load_tuner(host, path)


def checkpoint(folder: Path) -> tuple[Path, Callable]:
    host, path = make_host(), folder / "epoch_1.pth"
    wrapper = OptimWrapper(torch.optim.AdamW(host.tuners.parameters(), lr=0.1))
    wrapper.update_params(sum(p.square().sum() for p in host.tuners.parameters()))
    log = dict(values=torch.ones(3), counts=torch.ones(3, dtype=torch.long), max_length=10)
    torch.save(
        dict(
            meta=dict(epoch=1, iter=2, seed=0, settings={}),
            state_dict=host.tuners.state_dict(),
            message_hub=dict(log_scalars={"loss": log}, runtime_info={}, resumed_keys={}),
            random_states=[random_state()],
            optimizer=wrapper.state_dict(),
        ),
        path,
    )

    def read() -> None:
        content = read_checkpoint(str(path))
        check_contents(content, str(path))
        check_resumable(content, str(path), wrapper, None)

    return path, read


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (200, 30, 30)).save(path)


def coco_json(folder: Path) -> tuple[Path, Callable]:
    write_picture(folder / "a.png")
    path = folder / "annotations.json"
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 5, 6], area=30, iscrowd=0)
    polygon = dict(id=2, image_id=1, category_id=2, segmentation=[[1, 1, 9, 1, 9, 9]])
    content = dict(
        images=[dict(id=1, file_name="a.png", width=20, height=16)],
        annotations=[box, polygon],
        categories=[dict(id=1, name="cat", supercategory="pet"), dict(id=2, name="dog")],
    )
    path.write_text(json.dumps(content))

    def read() -> None:
        report = check_coco(path, folder)
        for kind in ("errors", "left_out", "filled"):
            report.sentences(kind)
        report.refuse()
        list(report.names)

    return path, read


def voc_xml(folder: Path) -> tuple[Path, Callable]:
    write_picture(folder / "voc/JPEGImages/a.jpg")
    path = folder / "voc/Annotations/a.xml"
    path.parent.mkdir(parents=True)
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?><annotation><filename>a.jpg</filename><size>'
        "<width>20</width><height>16</height><depth>3</depth></size><object><name>cat</name>"
        "<difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax>"
        "</bndbox></object></annotation>"
    )
    return path, lambda: convert_voc(folder / "voc", None, progress=False)


def yolo_label(folder: Path) -> tuple[Path, Callable]:
    return _yolo(folder, "labels/train/a.txt")


def yolo_yaml(folder: Path) -> tuple[Path, Callable]:
    return _yolo(folder, "data.yaml")


def _yolo(folder: Path, name: str) -> tuple[Path, Callable]:
    root = folder / "yolo"
    write_picture(root / "images/train/a.jpg")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.2 0.3\n1 0.1 0.1 0.4 0.1 0.4 0.6\n")
    (root / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/train\nnames: [a, b]\n"
    )
    return root / name, lambda: convert_yolo(root, None, progress=False)


def _pictures(folder: Path) -> list[str]:
    """Two images of each split; the split is the name without a digit."""
    names = [f"{split}{i}.png" for split in ("train", "val", "test") for i in range(2)]
    for name in names:
        write_picture(folder / name)
    return names


def class_csv(folder: Path) -> tuple[Path, Callable]:
    names = _pictures(folder)
    path = folder / "list.csv"
    rows = [f"{n},{'cat' if i % 2 else 'dog'},{n[:-5]}" for i, n in enumerate(names)]
    path.write_text("\n".join(["path,class,split", *rows, ""]))
    return path, lambda: CsvFile(folder, path.name).items("train")


def class_json(folder: Path) -> tuple[Path, Callable]:
    path, classes, names = folder / "split.json", ("dog", "cat"), _pictures(folder)
    splits: dict[str, list] = {}
    for i, name in enumerate(names):
        splits.setdefault(name[:-5], []).append([name, i % 2, classes[i % 2]])
    path.write_text(json.dumps(splits))
    return path, lambda: JsonFile(folder, path.name).items("train")


def image(suffix: str) -> Callable[[Path], tuple[Path, Callable]]:
    def make(folder: Path) -> tuple[Path, Callable]:
        path = folder / f"a{suffix}"
        write_picture(path)
        return path, lambda: LoadPillowImage().transform(dict(img_path=str(path)))

    return make


KINDS: dict[str, Callable[[Path], tuple[Path, Callable]]] = {
    **{f.__name__: f for f in (tuner_file, checkpoint, coco_json, voc_xml, yolo_label, yolo_yaml)},
    **{f.__name__: f for f in (class_csv, class_json)},
    **{f"image{suffix}": image(suffix) for suffix in (".png", ".jpg", ".bmp", ".tiff")},
}


# ------------------------------------------------------------------ mutations


edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "delete", "insert", "replace", "repeat", "cut", "word"]),
        st.floats(0, 1),  # where
        st.integers(0, 255),
        st.sampled_from(WORDS),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    data = bytearray(content)
    for how, place, number, word in changes:
        at = min(int(place * len(data)), max(len(data) - 1, 0))
        if how == "flip" and data:
            data[at] ^= 1 << number % 8
        elif how == "set" and data:
            data[at] = number
        elif how == "delete":
            del data[at : at + number]
        elif how == "insert":
            data[at:at] = bytes([number]) * (number % 7 + 1)
        elif how == "replace":
            data[at : at + len(word)] = word
        elif how == "repeat":
            data[at:at] = data[at : at + number]
        elif how == "cut":
            del data[at:]
        elif how == "word":
            data[at:at] = word
    return bytes(data)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """At most a gigabyte more than now, and two seconds of this process's time."""

    def too_slow(*args: object) -> None:
        raise AssertionError(f"it takes more than {MOST_SECONDS} seconds")

    with open("/proc/self/statm") as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGVTALRM, too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (present + MOST_BYTES, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    start = time.process_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGVTALRM, handler)
    assert time.process_time() - start < MOST_SECONDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_file_is_read_or_refused_with_one_sentence(kind, tmp_path):
    path, read = KINDS[kind](tmp_path)
    whole = path.read_bytes()
    read()  # the file itself is fine

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(edits)
    def check(changes) -> None:
        path.write_bytes(mutated(whole, changes))
        with bounded(), contextlib.redirect_stderr(io.StringIO()):
            try:
                read()
            except InputError as error:
                assert str(error)
                assert "Traceback" not in str(error)

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        check()
    finally:
        logger.setLevel(level)
