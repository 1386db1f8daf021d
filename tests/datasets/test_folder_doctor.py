"""The data doctor finds the format of a folder of one's own, and says what is wrong with it."""

import gzip
import json
import shutil

import pytest

from mmsdpt.datasets.converters import convert_coco
from mmsdpt.datasets.folder_doctor import examine_folder
from mmsdpt.utils.errors import InputError
from tests import run_tools

from .converter_sources import pair, picture, roboflow, voc
from .miniature_layouts import make_class_folders
from .test_converter_exports import label_studio


def run(folder, capsys):
    return run_tools.run("data_doctor.py", folder), "".join(capsys.readouterr())


def test_clean_folders_of_every_format_are_well(tmp_path, capsys):
    for stem in ("a", "bb"):
        pair(tmp_path / "voc", stem)
    label_studio(tmp_path / "yolo")
    voc(tmp_path / "voc", tmp_path / "coco", split=(1, 1, 0))
    make_class_folders(tmp_path / "classes", {"": 10})
    for name, facts in (
        ("voc", "2 found, 2 written"),
        ("yolo", "classes: cat, dog"),
        ("coco", "1 images; boxes: cat 1"),
        ("classes", "3 classes: owl, red fox, sea lion"),
    ):
        code, text = run(tmp_path / name, capsys)
        assert code == 0 and facts in text and "WRONG" not in text, text
        assert "not used" not in text  # such as a converter's own report


def test_a_stray_xml_file_does_not_make_a_yolo_folder_voc(tmp_path):
    label_studio(tmp_path)
    (tmp_path / "labels" / "a_0.xml").write_text("<annotation/>")
    (finding,) = examine_folder(tmp_path)
    assert finding.title.startswith("YOLO") and not finding.problems
    assert finding.notes == ["not used, fewer XML than text files: labels/a_0.xml"]


def test_a_stray_xml_file_does_not_make_class_folders_voc(tmp_path):
    make_class_folders(tmp_path, {"": 10})
    (tmp_path / "info.xml").write_text("<dataset/>")
    (finding,) = examine_folder(tmp_path)
    assert finding.title.startswith("class folders") and not finding.problems
    assert finding.notes == ["not used, XML that is not VOC's: info.xml"]


def test_cvats_own_xml_is_called_what_it_is(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "annotations.xml").write_text("<annotations/>")
    (finding,) = examine_folder(tmp_path)
    assert "CVAT's own format: export as Pascal VOC there" in finding.problems[0]


def test_voc_with_a_list_of_classes_stays_voc(tmp_path):
    for stem in ("a", "b"):
        pair(tmp_path, stem)
    (tmp_path / "classes.txt").write_text("cat\n")
    (finding,) = examine_folder(tmp_path)
    assert finding.title.startswith("VOC")


def test_a_compressed_annotation_file_is_said(tmp_path):
    roboflow(tmp_path)
    path = tmp_path / "train" / "_annotations.coco.json"
    packed = path.rename(path.with_name(f"{path.name}.gz"))
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    told = "train/_annotations.coco.json.gz"
    last = examine_folder(tmp_path)[-1]
    assert "not used: " not in last.notes
    assert f"compressed, not used; unpack {told}" in last.problems
    report = convert_coco(tmp_path, None, rename={"Cat": "cat"}, progress=False)
    assert report.named["label_compressed"] == [(told, "")]
    for other in tmp_path.rglob("*.json"):
        other.unlink()
    with pytest.raises(InputError, match=f"{told} is compressed: unpack it"):
        convert_coco(tmp_path, None, progress=False)
    (finding,) = examine_folder(tmp_path)  # as classes: the images are still there
    assert f"compressed, not used; unpack it if it has boxes: {told}" in finding.notes
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    (finding,) = examine_folder(tmp_path)
    assert finding.problems == [f"compressed, not used; unpack {told}"]


def test_faults_are_named_with_file_and_entry(tmp_path, capsys):
    roboflow(tmp_path)
    path = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["image_id"] = 99
    path.write_text(json.dumps(content))
    code, text = run(tmp_path, capsys)
    assert code == 1 and str(path) in text
    assert "annotations of an image that is not listed (1: id 0)" in text
    assert "'cat', 'Cat' are the same text to the model" in text
    assert "1 of its images are also in train (a.jpg, ...)" in text


def test_two_names_that_no_english_model_reads_are_one_class(tmp_path, capsys):
    roboflow(tmp_path)
    path = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    for category, name in zip(content["categories"][-2:], ("猫", "狗"), strict=True):
        category["name"] = name
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    code, text = run(tmp_path, capsys)
    assert code == 1 and "'猫' and '狗' are the same text to GLIP" in text


def test_what_a_converter_refuses_is_wrong(tmp_path):
    pair(tmp_path, "a", name="(unknown)")
    (finding,) = examine_folder(tmp_path)
    assert "ignores text in parentheses" in finding.problems[0]
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("content", "tool"),
    [
        (dict(shapes=[], imagePath="a.jpg"), "labelme"),
        (dict(objects=[], size=dict(height=9, width=9)), "a Supervisely file: export as COCO"),
        (dict(items=[], categories={}, info={}), "a Datumaro file: export as COCO"),
    ],
)
def test_annotations_of_another_tool_are_called_what_they_are(tmp_path, content, tool):
    picture(tmp_path / "ann" / "a.jpg")
    (tmp_path / "ann" / "a.json").write_text(json.dumps(content))
    (finding,) = examine_folder(tmp_path)
    assert finding.problems[0].startswith("ann/a.json is ") and tool in finding.problems[0]
    with pytest.raises(InputError, match=f"No COCO file .*ann/a.json is .*{tool}"):
        convert_coco(tmp_path, None)


def test_folders_without_data_are_refused(tmp_path):
    with pytest.raises(InputError, match="has no data in a known format: COCO"):
        examine_folder(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        examine_folder(tmp_path / "nowhere")


def test_a_report_alone_writes_nothing(tmp_path):
    roboflow(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    report = convert_coco(tmp_path, None, rename={"Cat": "cat"}, progress=False)
    assert report.splits["val"]["boxes"] == 2 and sorted(tmp_path.rglob("*")) == before


def test_a_file_without_boxes_is_no_training_data_and_gives_no_score(tmp_path):
    roboflow(tmp_path)
    for path in tmp_path.rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    train, val = examine_folder(tmp_path)
    assert "it has no box, so there is nothing to train on" in train.problems
    assert any("its AP will be -1" in note for note in val.notes)


def test_broken_and_copied_images_of_class_folders_are_wrong(tmp_path):
    make_class_folders(tmp_path, {"train": 4})
    for image in sorted(tmp_path.rglob("003.jpg")):
        (tmp_path / "test" / image.parent.name).mkdir(parents=True)
        image.rename(tmp_path / "test" / image.parent.name / "a.jpg")
    broken, copied, *_ = sorted((tmp_path / "train").rglob("*.jpg"))
    broken.write_bytes(broken.read_bytes()[:40])
    shutil.copy(copied, tmp_path / "test" / copied.parent.name / "copy.jpg")
    (finding,) = examine_folder(tmp_path)
    assert any("leaves out 1" in text and broken.name in text for text in finding.problems)
    assert any(
        "1 of 4 test images are copies of training" in text and "copy.jpg" in text
        for text in finding.problems
    )
