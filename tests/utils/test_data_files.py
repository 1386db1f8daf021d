"""Data that is missing, and classes that do not fit, are named before anything is built."""

import json

import pytest

from mmsdpt.utils.data_files import check_dataset_files, check_evaluator_files
from mmsdpt.utils.errors import InputError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "train.json").write_text("{}")
    return tmp_path


def dataset(root, ann_file="train.json", images="images/", **others):
    return dict(
        type="CocoDataset",
        data_root=f"{root}/",
        ann_file=ann_file,
        data_prefix=dict(img=images),
        **others,
    )


WRAPPERS = {
    "plain": lambda inner: inner,
    "repeated": lambda inner: dict(type="RepeatDataset", times=2, dataset=inner),
    "few shots of repeated": lambda inner: dict(dataset=dict(dataset=inner)),
    "concatenated": lambda inner: dict(type="ConcatDataset", datasets=[dict(type="A"), inner]),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_missing_files_are_named_through_wrappers(root, wrap):
    check_dataset_files(wrap(dataset(root)))
    with pytest.raises(
        InputError, match=f"annotation file not found: {root}/val.json; .*data-root"
    ):
        check_dataset_files(wrap(dataset(root, ann_file="val.json")))
    with pytest.raises(InputError, match=f"image folder not found: {root}/val/; .*data-root"):
        check_dataset_files(wrap(dataset(root, images="val/")))


def test_paths_of_their_own_and_other_storage_are_judged_as_the_toolbox_does(root):
    check_dataset_files(dataset("/nowhere", ann_file=f"{root}/train.json", images=f"{root}/images"))
    check_dataset_files(dataset("s3://bucket", backend_args=dict(backend="s3")))
    check_dataset_files(dataset(root, ann_file="http://host/train.json", images=""))
    check_dataset_files(dict(type="mmsdpt.SceneTaskDataset", task="thermal", data_root="/nowhere"))
    check_dataset_files("no config")


def test_missing_files_of_metrics_are_named(root):
    good = dict(type="CocoMetric", ann_file=f"{root}/train.json")
    check_evaluator_files(good)
    check_evaluator_files([good, dict(type="VOCMetric"), "no config"])
    with pytest.raises(InputError, match="annotation file of LVISMetric not found: /nowhere.json"):
        check_evaluator_files([good, dict(type="LVISMetric", ann_file="/nowhere.json")])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("apple", "plum"), "no category plum: .* in this order: pear, apple"),
        (("apple", "pear"), r"different orders, .* write classes=\('pear', 'apple'\)"),
        ("pear", r"expected a tuple of names: write classes=\('pear',\)"),
    ],
)
def test_classes_that_would_get_each_others_boxes_are_refused(root, classes, message):
    """MMDetection numbers categories in the file's order, and drops names that it does not find."""
    content = dict(categories=[dict(id=1, name="pear"), dict(id=2, name="apple")])
    (root / "train.json").write_text(json.dumps(content))
    for good in (("pear", "apple"), ["apple"], None):
        check_dataset_files(dataset(root, metainfo=dict(classes=good)))
    with pytest.raises(InputError, match=message):
        check_dataset_files(dataset(root, metainfo=dict(classes=classes)))
