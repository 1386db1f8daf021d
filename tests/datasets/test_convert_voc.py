"""The VOC converter handles what real folders hold, and counts it exactly."""

import io

import mmcv
import numpy as np
import pytest
from PIL import Image

from mmsdpt.datasets.converters.common import turn_box
from mmsdpt.datasets.image_files import ImageFacts
from mmsdpt.utils.errors import InputError

from .converter_sources import (
    balanced,
    boxes,
    counts,
    pair,
    picture,
    read,
    truncated,
    voc,
    xml,
)

# ---------------------------------------------------------------- VOC, one problem each


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".webp", ".tif", ".bmp"])
def test_an_image_with_another_extension_is_found_by_the_xmls_name(tmp_path, suffix):
    picture(tmp_path / "src" / "JPEGImages" / f"A{suffix}")
    xml(tmp_path / "src" / "Annotations" / "a.xml", filename="a.jpg")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"filename_differs": 1}
    assert read(tmp_path / "out")["images"][0]["file_name"] == f"A{suffix}"


def test_boxes_of_a_corner_and_the_size_are_refused(tmp_path):
    pair(tmp_path, "a", boxes=[(20, 15, 10, 9), (21, 15, 10, 9), (2, 3, 10, 9)] * 3)
    with pytest.raises(InputError, match="seem to be x, y, width, height.* 6 of 9 have swapped"):
        voc(tmp_path, tmp_path / "out")
    # A box that does not fit so is one of corners.
    xml(tmp_path / "Annotations" / "a.xml", boxes=[(20, 15, 10, 9)] * 6 + [(20, 15, 30, 25)])
    assert counts(voc(tmp_path, tmp_path / "out"))["box_swapped"] == 6


def test_the_xmls_own_name_beats_a_wrong_filename(tmp_path):
    pair(tmp_path / "src", "a", filename="b.jpg")
    pair(tmp_path / "src", "b", filename="b")  # its own, without a suffix
    xml(tmp_path / "src" / "Annotations" / "z.xml", filename="c.jpg")
    picture(tmp_path / "src" / "JPEGImages" / "c.png")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"filename_differs": 1, "filename_used": 1}
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == [
        "a.jpg",
        "b.jpg",
        "c.png",
    ]


def test_a_filename_with_dots_may_lack_its_suffix(tmp_path):
    xml(tmp_path / "src" / "Annotations" / "1.xml", filename="photo.v1")
    picture(tmp_path / "src" / "JPEGImages" / "photo.v1.jpg")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert report.named["filename_used"] == [("Annotations/1.xml", "photo.v1.jpg")]


def test_xml_files_without_their_images_are_called_so(tmp_path):
    pair(tmp_path, "a")
    with pytest.raises(InputError, match="No image was found for any of the 1 XML files .* a.xml;"):
        voc(tmp_path / "Annotations", tmp_path / "out")


def test_objects_that_labelme_deleted_are_left_out(tmp_path):
    pair(tmp_path / "src", "a", extra="<deleted>0</deleted>")
    pair(tmp_path / "src", "b", extra="<deleted>1</deleted>", name="dog")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert report.named["object_deleted"] == [("Annotations/b.xml:4", "dog")]
    assert report.categories == ("cat",) and balanced(report)


def test_the_images_own_size_beats_a_wrong_or_missing_size(tmp_path):
    pair(tmp_path / "src", "a", size=(0, 0))
    pair(tmp_path / "src", "b", size=None)
    pair(tmp_path / "src", "c", size=(30, 40))
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"size_wrong": 3}
    assert {(image["width"], image["height"]) for image in read(tmp_path / "out")["images"]} == {
        (40, 30)
    }
    assert report.named["size_wrong"][0] == ("Annotations/a.xml", "0x0, the image is 40x30")


def test_boxes_are_mended_or_left_out_and_each_is_counted(tmp_path):
    pair(
        tmp_path / "src",
        "a",
        boxes=[
            (31, 21, 61, 41),  # partly outside: clipped to 30, 20, 40, 30
            (0, 1, 11, 11),  # 0 in a format that counts from 1
            (21, 16, 11, 6),  # swapped
            (41, 1, 51, 11),  # outside
            (-20, 1, 1, 11),  # touches the edge from outside
            (11, 6, 11, 16),  # no width
            (11, 6, 11.5, 16),  # half a pixel
            ("nan", 1, 5, 5),
            ("one", 1, 5, 5),
        ],
    )
    report = voc(tmp_path / "src", tmp_path / "out")
    assert boxes(tmp_path / "out") == [[30, 20, 10, 10], [0, 0, 10, 10], [10, 5, 10, 10]]
    assert counts(report) == {
        "box_clipped": 2,
        "box_swapped": 1,
        "box_outside": 2,
        "box_empty": 2,
        "object_malformed": 2,
    }
    assert report.named["box_outside"][0] == ("Annotations/a.xml:7", "box 40, 0, 50, 10 in 40x30")
    assert report.boxes_found == 9 and report.boxes_dropped == 6 and balanced(report)


def test_each_box_of_one_object_is_used(tmp_path):
    pair(tmp_path / "src", "a", extra="<difficult>1</difficult>")
    path = tmp_path / "src" / "Annotations" / "a.xml"
    further = (
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>9</ymax></bndbox><bndbox></bndbox>"
    )
    path.write_text(path.read_text().replace("</object>", f"{further}</object>"))
    report = voc(tmp_path / "src", tmp_path / "out")
    assert boxes(tmp_path / "out") == [[10, 5, 10, 10], [0, 0, 5, 8]]
    assert counts(report) == {"difficult": 2, "object_malformed": 1}
    assert report.boxes_found == 3 and balanced(report)


def test_unusable_images_and_labels_are_skipped_and_named(tmp_path):
    src = tmp_path / "src"
    pair(src, "good")
    truncated(src / "JPEGImages" / "cut.jpg")
    xml(src / "Annotations" / "cut.xml")
    (src / "JPEGImages" / "text.jpg").write_text("no image at all")
    xml(src / "Annotations" / "text.xml")
    (src / "JPEGImages" / "page.jpg").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )
    xml(src / "Annotations" / "page.xml")
    pair(src, "broken")
    (src / "Annotations" / "broken.xml").write_text("<annotation>\n<object>\n</annotation>")
    pair(src, "other")
    (src / "Annotations" / "other.xml").write_text("<svg/>")
    pair(src, "hollow")
    (src / "Annotations" / "hollow.xml").write_text("")
    xml(src / "Annotations" / "ghost.xml")
    picture(src / "JPEGImages" / "bare.jpg")
    picture(src / "JPEGImages" / "good.png")
    picture(src / "JPEGImages" / "._good.jpg")
    report = voc(src, tmp_path / "out")
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == ["good.jpg"]
    assert counts(report) == {
        "image_unreadable": 3,
        "label_malformed": 3,
        "image_without_usable_label": 3,
        "label_without_image": 1,
        "label_missing": 1,
        "image_name_duplicate": 1,
        "hidden_file": 1,
    }
    assert ("Annotations/broken.xml:3", "mismatched tag") in report.named["label_malformed"]
    assert report.images_found == 9 and balanced(report)


def test_images_without_boxes_are_kept_and_those_without_xml_on_request(tmp_path):
    pair(tmp_path / "src", "a")
    pair(tmp_path / "src", "empty", boxes=[])
    picture(tmp_path / "src" / "JPEGImages" / "bare.jpg")
    report = voc(tmp_path / "src", tmp_path / "out", missing_labels="keep")
    assert counts(report) == {"image_without_boxes": 2, "label_missing": 1}
    assert len(read(tmp_path / "out")["images"]) == 3 and balanced(report)


def test_classes_can_be_chosen_and_unknown_ones_are_said(tmp_path):
    pair(tmp_path / "src", "a", name="cat")
    pair(tmp_path / "src", "b", name=" dog\n")
    report = voc(tmp_path / "src", tmp_path / "out", classes=["emu", "dog"])
    assert [category["name"] for category in read(tmp_path / "out")["categories"]] == ["emu", "dog"]
    assert read(tmp_path / "out")["annotations"][0]["category_id"] == 2
    assert counts(report) == {"class_not_chosen": 1, "class_unused": 1, "image_without_boxes": 1}
    assert balanced(report)
    with pytest.raises(InputError, match="has none of the classes cat, dog; got 'Cat,emu'"):
        voc(tmp_path / "src", tmp_path / "none", classes=["Cat", "emu"])


def test_difficult_boxes_keep_their_mark(tmp_path):
    pair(tmp_path / "src", "a", extra="<difficult>1</difficult>")
    report = voc(tmp_path / "src", tmp_path / "keep")
    assert counts(report) == {"difficult": 1} and report.problems == 0
    mark = [(read(tmp_path / "keep")["annotations"][0][key]) for key in ("difficult", "iscrowd")]
    voc(tmp_path / "src", tmp_path / "ignore", difficult="ignore")
    assert mark == [1, 0]
    assert [
        (read(tmp_path / "ignore")["annotations"][0][key]) for key in ("difficult", "iscrowd")
    ] == [1, 1]


def test_two_labels_for_one_image_use_the_first(tmp_path):
    pair(tmp_path / "src", "a")
    xml(tmp_path / "src" / "Annotations" / "b.xml", filename="a.jpg")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert (
        counts(report) == {"filename_used": 1, "label_twice": 1}
        and len(boxes(tmp_path / "out")) == 1
    )


def test_images_of_one_name_from_two_folders_are_both_kept(tmp_path):
    src = tmp_path / "src"
    for folder in ("one", "two"):
        picture(src / folder / "a.jpg")
        xml(src / folder / "a.xml")
    report = voc(src, tmp_path / "out")
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == [
        "a.jpg",
        "a__2.jpg",
    ]
    assert (tmp_path / "out" / "images" / "train" / "a__2.jpg").is_file()
    assert counts(report) == {"image_name_taken": 1}


# ---------------------------------------------------------------- EXIF


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_that_mmcv_decodes_and_boxes_turn_with_the_image(
    tmp_path, orientation, suffix
):
    path = picture(tmp_path / "src" / f"a.{suffix}", (40, 30), orientation)
    xml(tmp_path / "src" / "a.xml", size=(40, 30), filename=path.name)
    report = voc(tmp_path / "src", tmp_path / "out")
    image = read(tmp_path / "out")["images"][0]
    decoded = mmcv.imfrombytes(path.read_bytes(), flag="color", backend="pillow")
    assert (image["height"], image["width"]) == decoded.shape[:2]
    turned = orientation >= 5  # <size> is then that of the stored image, so the boxes are too
    expected = ({"exif_orientation": 1} if orientation > 1 else {}) | (
        {"exif_boxes_turned": 1} if turned else {}
    )
    assert counts(report) == expected
    if turned:
        # A marked box in the stored image is found again at the written box of the decoded one.
        stored = np.zeros((30, 40, 3), np.uint8)
        stored[5:15, 10:20] = 255
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored).save(buffer, "TIFF" if suffix == "tif" else "PNG", exif=exif)
        ys, xs = np.nonzero(
            mmcv.imfrombytes(buffer.getvalue(), flag="color", backend="pillow")[..., 0]
        )
        assert boxes(tmp_path / "out") == [[xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]]


def test_boxes_in_the_displayed_frame_are_not_turned(tmp_path):
    picture(tmp_path / "src" / "a.jpg", (40, 30), 6)
    xml(tmp_path / "src" / "a.xml", size=(30, 40))
    report = voc(tmp_path / "src", tmp_path / "out")
    assert boxes(tmp_path / "out") == [[10, 5, 10, 10]] and counts(report) == {
        "exif_orientation": 1
    }
    assert turn_box((1, 2, 3, 4), ImageFacts((40, 30), 3, "")) == (1, 2, 3, 4)
