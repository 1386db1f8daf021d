"""Small folders in the layouts of VOC and YOLO, and what the converters make of them."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from mmsdpt.datasets.converters import convert_voc, convert_yolo
from tests.run_tools import load_tool


def picture(path: Path, size: tuple[int, int] = (40, 30), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(
        0, 255, (size[1], size[0], 3), dtype=np.uint8
    )
    options = {}
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    Image.fromarray(pixels).save(path, **options)
    return path


def truncated(path: Path) -> Path:
    picture(path, (64, 64))
    path.write_bytes(path.read_bytes()[:-200])
    return path


def xml(
    path: Path,
    boxes: list[tuple] = ((11, 6, 21, 16),),
    filename: str | None = None,
    size: tuple[int, int] | None = (40, 30),
    name: str = "cat",
    extra: str = "",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    filename = f"{path.stem}.jpg" if filename is None else filename
    lines = ["<annotation>", f"<filename>{filename}</filename>"]
    if size:
        lines.append(f"<size><width>{size[0]}</width><height>{size[1]}</height></size>")
    for x1, y1, x2, y2 in boxes:
        lines.append(
            f"<object><name>{name}</name>{extra}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        )
    path.write_text("\n".join([*lines, "</annotation>"]))
    return path


def pair(root: Path, stem: str, **options: object) -> None:
    """A valid image and its XML, or one that differs from it by ``options``."""
    picture(root / "JPEGImages" / f"{stem}.jpg")
    xml(root / "Annotations" / f"{stem}.xml", **options)


def yolo(root: Path, labels: dict[str, str | None], data: str = "") -> Path:
    """A YOLO folder with one image per label (None: no label file), all in train."""
    for stem, text in labels.items():
        picture(root / "train" / "images" / f"{stem}.jpg")
        if text is not None:
            label = root / "train" / "labels" / f"{stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    source = root / "data.yaml"
    source.write_text(data or "train: train/images\nnames: [cat, dog]\n")
    return source


def read(out: Path, split: str = "train") -> dict:
    return json.loads((out / "annotations" / f"{split}.json").read_text())


def boxes(out: Path, split: str = "train") -> list[list[float]]:
    return [annotation["bbox"] for annotation in read(out, split)["annotations"]]


def voc(root: Path, out: Path, **options: object):
    return convert_voc(root, out, progress=False, **options)


def from_yolo(source: Path, out: Path, **options: object):
    return convert_yolo(source, out, progress=False, **options)


def coco(names: list[str], size: tuple[int, int] = (40, 30), **annotation: object) -> dict:
    """COCO's content of images with a cat each."""
    cat, (w, h) = dict(category_id=1, bbox=[1, 2, 10, 10], **annotation), size
    return dict(
        images=[dict(id=n, file_name=f, width=w, height=h) for n, f in enumerate(names, 1)],
        annotations=[dict(cat, id=n, image_id=n) for n in range(1, len(names) + 1)],
        categories=[dict(id=1, name="cat")],
    )


def balanced(report) -> bool:
    """Everything found is either written or counted as left out."""
    data = report.to_dict()
    return all(
        data[what]["found"] == data[what]["written"] + data[what]["left_out"]
        for what in ("images", "boxes")
    )


def counts(report, *ignore: str) -> dict[str, int]:
    """Counts of the findings, but for the remark that a folder without splits is all train."""
    return {kind: n for kind, n in report.counts.items() if kind not in ("no_split", *ignore)}


def converter(name: str) -> ModuleType:
    """The tool of a converter."""
    return load_tool(f"dataset_converters/{name}.py")


def roboflow(root):
    """A root category of id 0, and names of splits as folders."""
    for split in ("train", "valid"):
        picture(root / split / "a.jpg")
        content = dict(
            images=[dict(id=0, file_name="a.jpg", width=40, height=30)],
            categories=[
                dict(id=0, name="animals", supercategory="none"),
                dict(id=1, name="cat", supercategory="animals"),
                dict(id=2, name="Cat ", supercategory="animals"),
            ],
            annotations=[
                dict(id=0, image_id=0, category_id=1, bbox=[1, 2, 10, 10]),
                dict(id=1, image_id=0, category_id=2, bbox=[5, 2, 10, 10]),
            ],
        )
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
