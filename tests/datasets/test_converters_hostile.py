"""The converters read nothing outside the source, and trust no file in it."""

import os

import pytest
from PIL import Image

from mmsdpt.utils.errors import InputError

from .converter_sources import (
    balanced,
    counts,
    from_yolo,
    pair,
    picture,
    read,
    voc,
    xml,
    yolo,
)

BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_entities_is_refused(tmp_path, encoding):
    pair(tmp_path / "src", "a")
    pair(tmp_path / "src", "bomb")
    (tmp_path / "src" / "Annotations" / "bomb.xml").write_bytes(
        BOMB.replace('"1.0"', f'"1.0" encoding="{encoding}"').encode(encoding)
    )
    pair(tmp_path / "src", "deep")
    (tmp_path / "src" / "Annotations" / "deep.xml").write_text("<annotation>" + "<a>" * 5000)
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"label_refused": 2, "image_without_usable_label": 2} and balanced(
        report
    )
    assert [detail for _, detail in report.named["label_refused"]] == [
        "it has a DOCTYPE",
        "it is nested over 32 deep",
    ]


@pytest.mark.parametrize(
    "name", ["../../secret.jpg", "/{outside}/secret.jpg", "..\\secret.jpg", "C:\\secret.jpg"]
)
def test_a_filename_that_leaves_the_source_is_refused(tmp_path, name):
    outside = picture(tmp_path / "secret.jpg")
    src = tmp_path / "src"
    pair(src, "a")
    pair(src, "b", filename=name.format(outside=outside.parent))
    xml(src / "Annotations" / "z.xml", filename=name.format(outside=outside.parent))
    report = voc(src, tmp_path / "out")
    assert counts(report) == {"path_refused": 2, "label_without_image": 1}
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == ["a.jpg", "b.jpg"]


def test_links_that_leave_the_source_are_refused(tmp_path):
    secret = picture(tmp_path / "private" / "secret.jpg")
    src = tmp_path / "src"
    pair(src, "a")
    (src / "JPEGImages" / "b.jpg").symlink_to(secret)
    xml(src / "Annotations" / "b.xml")
    (src / "more").symlink_to(secret.parent)
    os.mkfifo(src / "Annotations" / "pipe.xml")  # reading it would wait for ever
    report = voc(src, tmp_path / "out")
    assert counts(report) == {"path_refused": 3, "label_without_image": 1}

    source = yolo(tmp_path / "yolo", {"a": "0 0.5 0.5 0.5 0.5", "b": None})
    (tmp_path / "private" / "b.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "yolo" / "train" / "labels" / "b.txt").symlink_to(tmp_path / "private" / "b.txt")
    report = from_yolo(source, tmp_path / "out2")
    assert report.counts == {"path_refused": 1, "label_missing": 1, "image_without_boxes": 1}


@pytest.mark.parametrize("entry", ["../private", "{private}", 20 * "../" + "etc", "list.txt"])
def test_a_data_file_that_names_paths_outside_is_refused(tmp_path, entry):
    private = picture(tmp_path / "private" / "secret.jpg").parent
    source = yolo(tmp_path / "src", {"a": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "src" / "list.txt").write_text(f"{private}/secret.jpg\n../private/secret.jpg\n")
    source.write_text(f"train: train/images\nval: {entry.format(private=private)}\nnames: [cat]\n")
    report = from_yolo(source, tmp_path / "out")
    listed = {"path_refused": 2, "listed_absent": 2, "split_missing": 1}
    expected = listed if entry == "list.txt" else {"path_refused": 1, "split_missing": 1}
    assert counts(report) == expected
    assert list(report.splits) == ["train"]
    source.write_text("train: train/images\nval: ../private\nnames: [cat]\n")
    report = from_yolo(source, tmp_path / "out2", root=tmp_path)
    assert list(report.splits) == ["train", "val"], "--root says which folder is trusted"


@pytest.mark.parametrize(
    "data",
    [
        "names: !!python/object/apply:os.system ['true']",
        "names: [a, b\n",
        "[" * 1200,
        "just text",
        "train: train/images",
        "names: [cat, cat]\ntrain: train/images",
        "names: [[a], b]\ntrain: train/images",
        "names: {x: cat}\ntrain: train/images",
        "names: [cat]\ntrain: {a: b}",
        "names: [cat]\ntrain: nowhere",
        "names: [cat]\ntrain: " + 400 * "long",
        'path: "a\\0b"\nnames: [cat]\ntrain: "a\\0b"',
    ],
)
def test_an_unusable_data_file_gives_one_sentence(tmp_path, data):
    source = tmp_path / "src" / "data.yaml"
    source.parent.mkdir()
    source.write_text(data)
    with pytest.raises(InputError) as error:
        from_yolo(source, tmp_path / "out")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not (tmp_path / "out").exists()


def test_a_decompression_bomb_is_skipped(tmp_path, monkeypatch):
    pair(tmp_path / "src", "a")
    picture(tmp_path / "src" / "JPEGImages" / "huge.png", (200, 200))
    xml(tmp_path / "src" / "Annotations" / "huge.xml", filename="huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"image_too_large": 1} and balanced(report)


def test_names_cannot_write_to_the_terminal(tmp_path):
    pair(tmp_path / "src", "a", name="cat")
    xml(tmp_path / "src" / "Annotations" / "b\x1b[2J.xml")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert "\x1b" not in report.table() and "\\x1b[2J" in report.table()
