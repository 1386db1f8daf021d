"""Small inputs after public reports, each with what a person would want: it works, or one sentence
names the file, the entry and the way out. They lie beside the checkout and are skipped without it.
"""

import json
import shutil

import pytest
from mmengine.config import Config

from mmsdpt.datasets.classification import ClassificationData
from mmsdpt.datasets.converters import convert_voc, convert_yolo
from mmsdpt.engine.data_checks import prepare_data
from mmsdpt.utils.class_names import check_class_names
from mmsdpt.utils.errors import InputError

ROLES = ("train", "val", "test")
WORKS = ""

COCO = {
    "000_plain/config.py": WORKS,
    "101_roboflow_same_root/config.py": WORKS,
    "101_roboflow_same_root/config_as_advised.py": "has the class 'circle' twice",
    "103_annotation_ids/config.py": WORKS,
    "104_no_area/config.py": WORKS,
    "106_bare/config.py": WORKS,
    "109_polygons_only/config.py": WORKS,
    "110_backslash/config.py": WORKS,
    "111_val_no_images/config.py": "val.json: it has no images",
    "112_val_no_boxes/config.py": WORKS,
    "114_test_no_categories/config.py": WORKS,
    "117_bbox_null/config.py": WORKS,
    "119_orphans/config.py": WORKS,
    "120_image_missing/config.py": "train.json: images are missing .*train_1.jpg",
    "122_image_ids_twice/config.py": "train.json: images share an id",
    "123_order_differs/config.py": WORKS,
    "124_name_twice/config.py": WORKS,
    "124_name_twice/config2.py": "has the class 'circle' twice",
    "126_int_names/config.py": WORKS,
    "126_int_names/config_int.py": WORKS,
    "502_size_wrong/config.py": "192x160 in the file, 96x80 on disk",
    "504_train_no_boxes/config.py": "train.json: it has no box, so there is nothing to train on",
    "506_fractions/config.py": "boxes are fractions of the image",
    "513_train_image_truncated/config.py": WORKS,
}


@pytest.fixture(scope="module")
def cases(real_data):
    if not (real_data / "field_cases").is_dir():
        pytest.skip(f"no field cases in {real_data}")
    return real_data / "field_cases"


@pytest.fixture(scope="module")
def clip_cases(cases):
    return cases.parent / "field_cases_clip"


@pytest.fixture
def load(cases, repository, tmp_path):
    def config(name: str) -> Config:
        text = (cases / name).read_text().replace("REPO", str(repository))
        path = tmp_path / "config.py"
        path.write_text(text.replace("CASES", str(cases)))
        return Config.fromfile(path)

    return config


def prepare(cfg: Config, folder) -> dict[str, dict]:
    loaders = {role: cfg[f"{role}_dataloader"] for role in ROLES}
    metrics = {role: cfg.get(f"{role}_evaluator") for role in ROLES}
    prepare_data(loaders, metrics, folder, optional=("test",))
    return loaders


@pytest.mark.parametrize(("name", "refused"), COCO.items(), ids=COCO)
def test_coco_files(load, tmp_path, name, refused):
    cfg = load(name)
    if refused:
        with pytest.raises(InputError, match=refused):
            prepare(cfg, tmp_path / "copies")
        return
    loaders = prepare(cfg, tmp_path / "copies")
    dataset = loaders["train"]["dataset"]["dataset"]
    path = tmp_path / dataset["data_root"] / dataset["ann_file"]
    content = json.loads(path.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    classes = dataset["metainfo"]["classes"]
    assert tuple(names.values())[: len(classes)] == tuple(classes)
    assert all(
        {"bbox", "area", "iscrowd", "id"} <= set(entry) and entry["category_id"] in names
        for entry in content["annotations"]
    )
    for file_name in (image["file_name"] for image in content["images"]):
        folder = tmp_path / dataset["data_root"] / dataset["data_prefix"]["img"]
        assert (folder / file_name).is_file()


@pytest.mark.parametrize(
    "name",
    [
        "201_names_parentheses",
        "202_names_chinese",
        "204_names_only_parentheses",
        "206_names_underscore_case",
    ],
)
def test_class_names(load, name):
    from mmsdpt.registry import MODELS

    cfg = load(f"{name}/config.py")
    names = cfg.train_dataloader.dataset.dataset.metainfo.classes
    detector = MODELS.build(cfg.model)
    with pytest.raises(InputError, match="--rename"):
        detector.check_class_names(names, "the train dataset")


YOLO = {
    "301_cvat_yolo11": (("circle", "square"), 8),
    "303_label_studio_yolo": (("circle", "square"), 8),
    "305_yolo_absolute_elsewhere": (("circle", "square"), 8),
    "307_yolo_names_yes_no": (("yes", "no"), 8),
    "316_yolo_pose_2d": (("circle", "square"), 8),
    "318_yolo_pose_3d_odd": (("circle", "square"), 8),
    "327_yolo_capital_txt": (("circle", "square"), 8),
}


@pytest.mark.parametrize(("name", "expected"), YOLO.items(), ids=YOLO)
def test_yolo_folders(cases, tmp_path, name, expected):
    report = convert_yolo(cases / name, tmp_path / "out", progress=False)
    assert (report.categories, sum(s["boxes"] for s in report.splits.values())) == expected
    assert [53, 2, 33, 26] in [
        [round(value) for value in entry["bbox"]]
        for entry in json.loads((tmp_path / "out/annotations/train.json").read_text())[
            "annotations"
        ]
    ]


def test_voc_folders(cases, tmp_path):
    report = convert_voc(cases / "402_cvat_voc_subsets", tmp_path / "a", progress=False)
    assert {name: split["images"] for name, split in report.splits.items()} == {
        "train": 2,
        "val": 2,
    }
    report = convert_voc(cases / "403_robndbox", tmp_path / "b", progress=False)
    assert report.counts["polygon"] == 8 and report.splits["train"]["boxes"] == 8
    report = convert_voc(cases / "405_voc_gbk", tmp_path / "c", progress=False)
    assert report.categories == ("\u5706", "\u65b9")
    assert report.counts["class_name_doubtful"] == 2
    with pytest.raises(InputError, match="'Circle', 'circle', 'circle_' .*--rename"):
        convert_voc(cases / "409_voc_name_variants", tmp_path / "d", progress=False)
    report = convert_voc(cases / "412_image_modes", tmp_path / "e", progress=False)
    dropped = [where for where, _ in report.named["image_unreadable"]]
    assert dropped == ["thin.png"]


@pytest.mark.parametrize("name", ["extra_level", "synology", "training_testing"])
def test_class_folders(clip_cases, name):
    for split in ROLES:
        data = ClassificationData("folder", str(clip_cases / name / "data"), split)
        assert data.metainfo["classes"] == ("dress", "hat", "shoes") and len(data) == 6


def test_lists_of_images(clip_cases, tmp_path):
    folder = clip_cases / "extra_level" / "data" / "x"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)

    def read(name: str, split: str = "val"):
        shutil.copy(clip_cases / "annotations" / name, tmp_path)
        settings = dict(file=name, check_images=False)
        return ClassificationData("json", str(tmp_path), split, **settings)

    assert len(read("valid_key.json")) == 9
    for name, message in (
        ("deep.json", "is not a JSON file"),
        ("leak.json", "images in both train and test"),
        ("empty_name.json", "'' is empty"),
        ("surrogate.json", "one class|broken or control character|both train and test"),
    ):
        with pytest.raises(InputError, match=message):
            read(name)


def test_names_of_every_case_are_judged_without_a_vocabulary(cases, load):
    for name in ("201_names_parentheses", "204_names_only_parentheses"):
        names = load(f"{name}/config.py").train_dataloader.dataset.dataset.metainfo.classes
        with pytest.raises(InputError):
            check_class_names(names, source=name)
