"""The categories of COCO files in the order and spelling of a config's classes."""

import pytest
from mmdet.datasets import CocoDataset

from mmsdpt.datasets.coco_checks import check_coco, put_in_order
from mmsdpt.engine.data_checks import prepare_data
from mmsdpt.utils.errors import InputError
from tests.datasets.coco_splits import CLASSES, EXPECTED, labelled


def test_categories_may_have_any_order_and_only_some_may_occur(data):
    """Some tools sort by name, others by first use, and leave out what a split does not show."""
    for split, names in (("val", ("square", "circle")), ("test", ("square",))):
        content = data.splits[split]
        content["categories"] = [dict(id=k, name=name) for k, name in enumerate(names, 1)]
        content["annotations"] = [
            dict(entry, category_id=1 + names.index(CLASSES[entry["category_id"] - 1]))
            for entry in content["annotations"]
            if CLASSES[entry["category_id"] - 1] in names
        ]
    data.save()
    datasets = data.prepare()
    assert labelled(datasets["val"]) == EXPECTED
    assert [[label for label, _ in image] for image in labelled(datasets["test"])] == [[1], [1]]
    swapped = data.prepare(classes=("square", "circle"))
    assert {(1 - label, box) for label, box in labelled(swapped["train"])[0]} == set(EXPECTED[0])


@pytest.mark.parametrize("root_id", [0, 9])
def test_a_root_category_of_the_classs_own_name_is_the_same_class(data, root_id):
    for content in data.splits.values():
        content["categories"] = [
            dict(id=root_id, name="circle", supercategory="none"),
            dict(id=1, name="circle", supercategory="circle"),
            dict(id=2, name="square", supercategory="circle"),
        ]
    data.save()
    datasets = data.prepare()
    assert labelled(datasets["train"]) == EXPECTED
    assert datasets["val"].cat_ids == [1, 2]  # of the file's boxes, for results as JSON
    with pytest.raises(InputError, match="has the class 'circle' twice"):
        data.prepare(classes=("circle", "circle"))


def test_advice_names_categories_with_boxes_and_no_root(data):
    for content in data.splits.values():
        content["categories"].insert(0, dict(id=0, name="shapes", supercategory="none"))
        for category in content["categories"][1:]:
            category["supercategory"] = "shapes"
    data.save()
    with pytest.raises(InputError) as error:
        data.prepare(classes=("disc",))
    assert str(error.value).count("it has no category 'disc'; it has 'circle', 'square'") == 2


def test_names_that_are_numbers_are_texts(data):
    for content in data.splits.values():
        content["categories"] = [dict(id=1, name=0), dict(id=2, name=1)]
    data.save()
    for classes in (("0", "1"), (0, 1)):
        datasets = data.prepare(classes=classes)
        assert labelled(datasets["train"]) == EXPECTED
        assert datasets["train"].metainfo["classes"] == ("0", "1")


def test_a_config_without_classes_does_not_take_cocos(data):
    data.save()
    with pytest.raises(InputError, match=r"set metainfo=dict\(classes=\('circle', 'square'\)\)"):
        loader = dict(dataset={k: v for k, v in data.config("train").items() if k != "metainfo"})
        prepare_data({"train": loader}, {}, data.root / "work")


def test_names_that_are_the_same_to_the_model_are_one_class_in_all_splits(data, caplog):
    for category, name in zip(data.splits["val"]["categories"], ("Circle ", "SQUARE"), strict=True):
        category["name"] = name
    data.save()
    datasets = data.prepare(classes=("circle", "square\u200b"))
    assert labelled(datasets["train"]) == labelled(datasets["val"]) == EXPECTED


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (("CIRCLE", "square"), ("circle", "Circle"), "classes 'circle', 'Circle' .* 'CIRCLE' are"),
        (("Zebra a", "zebra_a"), ("zebra a",), "'zebra a' and the .* 'Zebra a', 'zebra_a' are"),
        (("circle", "square"), ("square", "square\u200b"), "has the class 'square' twice"),
        (("circle", "square"), ("circle", "Circle"), "no category 'Circle'; it has 'circle'"),
    ],
)
def test_several_spellings_of_one_class_are_refused_with_all_of_them(data, names, classes, message):
    for content in data.splits.values():
        for category, name in zip(content["categories"], names, strict=True):
            category["name"] = name
    data.save()
    with pytest.raises(InputError, match=message):
        data.prepare(classes=classes)


def test_categories_of_one_text_that_are_each_named_exactly_are_used(data):
    for content in data.splits.values():
        for category, name in zip(content["categories"], ("M (3)", "M (5)"), strict=True):
            category["name"] = name
    data.save()
    assert labelled(data.prepare(classes=("M (3)", "M (5)"))["train"]) == EXPECTED
    only = data.prepare(classes=("M (5)",))["train"]
    assert [[label for label, _ in image] for image in labelled(only)] == [[0], [0]]


def test_boxes_of_a_category_in_another_spelling_are_counted(data):
    data.splits["train"]["categories"][1]["name"] = "SQUARE"
    data.save()
    report = check_coco(data.root / "annotations" / "train.json")
    put_in_order(report, ("circle", "square\u200b"), ())
    assert report.boxes == {"circle": 2, "square\u200b": 2}


def test_boxes_of_classes_that_the_config_does_not_name_are_said(data, monkeypatch):
    lines = []
    monkeypatch.setattr(
        "mmsdpt.engine.data_checks.print_log", lambda text, **options: lines.append(text)
    )
    data.splits["val"]["annotations"].pop()
    data.save()
    data.prepare(classes=("circle",))
    told = "boxes of categories that the config does not name are not used: 'square'"
    counts = (("train", 2), ("val", 1), ("test", 2))
    assert lines == [f"{data.root}/annotations/{split}.json: {told} {n}" for split, n in counts]


def test_boxes_of_other_classes_alone_are_nothing_to_train_on(data):
    """As where the root category of a Roboflow export is taken for the class."""
    data.splits["train"]["categories"].append(dict(id=0, name="shapes", supercategory="none"))
    data.save()
    with pytest.raises(InputError, match="no box of the config's classes.* 'circle', 'square'$"):
        data.prepare(classes=("shapes",))


def test_a_class_in_another_spelling_that_only_other_splits_have_is_added(data):
    for split in ("train", "test"):
        data.splits[split]["categories"][1]["name"] = "Square"
    val = data.splits["val"]
    val["categories"].pop()
    val["annotations"] = [entry for entry in val["annotations"] if entry["category_id"] == 1]
    data.save()
    datasets = data.prepare()
    assert labelled(datasets["train"]) == EXPECTED
    assert [[label for label, _ in image] for image in labelled(datasets["val"])] == [[0], [0]]


def test_one_class_without_its_comma_is_refused_and_a_file_of_names_is_read(data):
    data.save()
    with pytest.raises(InputError, match=r"is the string 'circle', .* write classes=\('circle',\)"):
        data.prepare(classes="circle")
    names = data.root / "names.txt"
    names.write_text("circle\nsquare\n")
    assert labelled(data.prepare(classes=str(names))["train"]) == EXPECTED


def test_one_file_serves_all_classes_and_some_of_them(data):
    data.save()
    some, every = data.config("val", ("square",)), data.config("val")
    prepare_data(dict(val=dict(dataset=some), test=dict(dataset=every)), {}, data.root / "work")
    every.pop("type")
    assert labelled(CocoDataset(**every, pipeline=[], test_mode=True)) == EXPECTED
