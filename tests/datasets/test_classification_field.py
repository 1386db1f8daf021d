"""What people's folders and lists do besides: nothing is merged, doubled or lost silently."""

from __future__ import annotations

import json
import shutil

import pytest

from mmsdpt.analysis.models import split_arguments
from mmsdpt.apis.inputs import several
from mmsdpt.datasets.classification import ClassificationData
from mmsdpt.utils.class_names import name_problems
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import make_class_folders, save_image
from tests.datasets.own_data import load, paths
from tests.datasets.test_image_files import animation

SPLITS = {"train": 3, "val": 2, "test": 2}


def labelled(data) -> list[tuple[str, int]]:
    labels = [data.get_data_info(i)["gt_label"] for i in range(len(data))]
    return list(zip(paths(data), labels, strict=True))


def write_list(root, change=lambda rows: rows) -> None:
    make_class_folders(root, SPLITS)
    rows = [
        [path.relative_to(root).as_posix(), path.parent.name, path.parts[-3]]
        for path in sorted(root.rglob("*.jpg"))
    ]
    lines = [",".join(row) for row in [["path", "class", "split"], *change(rows)]]
    (root / "list.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("twin", ["owl\u200b", "\ufeffowl", "owl\u00ad"])
def test_folders_of_one_class_name_are_refused_with_both(tmp_path, twin):
    make_class_folders(tmp_path, SPLITS)
    shutil.copytree(tmp_path / "train" / "owl", tmp_path / "train" / twin)
    with pytest.raises(InputError, match="have the same class name 'owl'") as error:
        load("folder", tmp_path)
    assert repr(f"train/{twin}") in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        ("train_set", "test_set"),
        ("Training Data", "Validation Data", "Testing Data"),
        ("TrainSet", "TestSet"),
        ("tr", "te"),
    ],
)
def test_splits_may_be_a_word_of_the_folders_names(tmp_path, names):
    make_class_folders(tmp_path, dict.fromkeys(names, 3))
    data = load("folder", tmp_path)
    assert data["test"].metainfo["classes"] == ("owl", "red fox", "sea lion")
    assert all(path.startswith(f"{names[-1]}/") for path in paths(data["test"]))


def test_a_split_below_a_class_is_one_folder(tmp_path):
    for name in ("owl", "fox"):
        for split in ("train", "training", "test")[name == "fox" :]:
            for i in range(2):
                save_image(tmp_path / name / split / f"{i}.jpg", 1, i)
    with pytest.raises(
        InputError, match="owl has both train and training; expected only one of them"
    ):
        load("folder", tmp_path)


def test_a_train_is_a_vehicle_beside_others(tmp_path):
    for name in ("train", "bus", "test tube"):
        for i in range(6):
            save_image(tmp_path / name / f"{i}.png", 9, i)
    assert load("folder", tmp_path)["train"].metainfo["classes"] == ("bus", "test tube", "train")


@pytest.mark.parametrize(
    ("names", "beside"),
    [
        (("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred"),
        (("train_images", "val_images", "test_images"), "sample"),
        (("train/train", "test_images"), "train_masks/owl"),
        (("train", "val", "test images"), "sample"),
    ],
)
def test_what_lies_beside_the_splits_makes_them_no_classes(tmp_path, log, names, beside):
    make_class_folders(tmp_path, dict.fromkeys(names, 3))
    save_image(tmp_path / beside / "0.png", 9, 0)
    data = load("folder", tmp_path)
    assert all(each.metainfo["classes"] == ("owl", "red fox", "sea lion") for each in data.values())
    assert all(path.startswith(names[0]) for path in paths(data["train"]))
    assert all(path.startswith(names[-1]) for path in paths(data["test"]))
    assert f"{beside.split('/')[0]} beside the splits is ignored" in log.text


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ("steam train/day", "test tube/full", "bus/red"),
            "like splits but contain different",
        ),
        (("train_images/owl", "test_images", "sample"), "has the test images without class fold"),
        (
            ("train_images/owl", "val_images/owl", "sample"),
            "only the splits train and val; expected",
        ),
        (("train/train", "test/test"), "has the test images without class folders"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path, folders, message):
    for number, folder in enumerate(folders):
        save_image(tmp_path / folder / "0.png", number, 0)
    with pytest.raises(InputError, match=message):
        load("folder", tmp_path)


def test_classes_with_a_word_of_splits_in_their_names_stay_classes(tmp_path):
    names = ("bus", "dev board", "steam train", "subway train", "test tube")
    make_class_folders(tmp_path / "flat", {"": 4}, classes=names)
    assert load("folder", tmp_path / "flat")["train"].metainfo["classes"] == names
    for name in (names := ("bus", "steam train", "test tube")):
        make_class_folders(tmp_path / "deep" / name, {"": 4}, classes=["train", "test"])
    data = load("folder", tmp_path / "deep")
    assert data["test"].metainfo["classes"] == names
    assert len(data["test"]) == 12 and all("/test/" in path for path in paths(data["test"]))


def test_what_lies_beside_the_splits_below_a_class_is_in_none(tmp_path, log):
    for name in ("bottle", "cable"):
        for folder in ("train/good", "test/broken", "ground_truth/broken"):
            for i in range(3):
                save_image(tmp_path / name / folder / f"{i}.png", 9, i)
    data = load("folder", tmp_path)
    assert data["train"].metainfo["classes"] == ("bottle", "cable")
    assert all("/train/good/" in path for split in ("train", "val") for path in paths(data[split]))
    assert all("/test/broken/" in path for path in paths(data["test"]))
    assert "ground_truth beside the splits below the classes is ignored" in log.text


def test_a_train_is_a_kind_of_vehicle(tmp_path):
    for folder in ("vehicle/train", "vehicle/bus", "animal/dog", "animal/cat"):
        for i in range(4):
            save_image(tmp_path / folder / f"{i}.png", 9, i)
    data = load("folder", tmp_path)
    assert data["train"].metainfo["classes"] == ("animal", "vehicle") and len(data["train"]) == 8


def test_classes_that_a_split_lacks_are_warned_of(tmp_path, log):
    make_class_folders(tmp_path, SPLITS)
    shutil.rmtree(tmp_path / "test" / "owl")
    save_image(tmp_path / "test" / "zebra" / "0.png", 9, 0)
    load("folder", tmp_path)
    assert "test has no images of 'owl': these classes are not evaluated on test" in log.text
    assert "train has no images of 'zebra': these classes are not trained" in log.text


def test_a_class_whose_images_cannot_be_read_is_warned_of(tmp_path, log):
    make_class_folders(tmp_path, SPLITS)
    for path in (tmp_path / "train" / "owl").iterdir():
        path.write_bytes(b"no image")
    assert len(load("folder", tmp_path)["train"]) == 6
    assert "train has no images of 'owl': these classes are not trained" in log.text
    assert log.text.count("has no images of") == 1


@pytest.mark.parametrize("name", ["\ud800", "a\nb", "\x1b[31m"])
def test_the_log_has_no_line_break_or_escape_sequence_of_a_path(tmp_path, log, name):
    make_class_folders(tmp_path, SPLITS)
    rows = {
        split: [[f"{split}/{folder}/000.jpg", n, folder] for n, folder in enumerate(("owl", "fox"))]
        for split in SPLITS
    }
    shutil.copytree(tmp_path / "train/red_fox", tmp_path / "train/fox")
    rows["train"].append([f"train/{name}.jpg", 0, "owl"])
    (tmp_path / "split.json").write_text(json.dumps(rows))
    ClassificationData("json", str(tmp_path), file="split.json")
    (said,) = [each.getMessage() for each in log.records if "cannot be read" in each.getMessage()]
    assert said.isprintable()
    assert f"train/{name}.jpg".encode("unicode_escape").decode() in said


def test_lists_of_windows_are_read(tmp_path):
    write_list(tmp_path, lambda rows: [[row[0].replace("/", "\\"), *row[1:]] for row in rows])
    data = load("csv", tmp_path, file="list.csv")
    assert len(data["train"]) == 9 and "train/owl/000.jpg" in paths(data["train"])


def test_a_list_counts_an_image_once_and_under_one_class(tmp_path, log):
    write_list(tmp_path / "a", lambda rows: rows + rows[:2])
    assert sum(map(len, load("csv", tmp_path / "a", file="list.csv").values())) == 21
    assert "2 test images are repeated; each is used once" in log.text
    write_list(tmp_path / "b", lambda rows: [*rows, [rows[0][0], "sea_lion", rows[0][2]]])
    with pytest.raises(InputError, match="two classes for .*, 'owl' and 'sea_lion'"):
        load("csv", tmp_path / "b", file="list.csv")


@pytest.mark.parametrize("spelling", ["./{}", ".\\{}", ".//{}"])
def test_an_image_is_known_in_another_spelling_of_its_path(tmp_path, log, spelling):
    def again(*changes):
        return lambda rows: [*rows, [spelling.format(rows[0][0]), *changes]]

    write_list(tmp_path / "a", again("owl", "test"))
    assert len(load("csv", tmp_path / "a", file="list.csv")["test"]) == 6
    assert "1 test images are repeated; each is used once" in log.text
    write_list(tmp_path / "b", again("owl", "train"))
    with pytest.raises(InputError, match="1 images in both train and test"):
        load("csv", tmp_path / "b", file="list.csv")
    write_list(tmp_path / "c", again("sea_lion", "test"))
    with pytest.raises(InputError, match="two classes for .*, 'owl' and 'sea_lion'"):
        load("csv", tmp_path / "c", file="list.csv")


def test_identifiers_are_doubtful_names():
    assert len(name_problems(["n01440764", "10000001", "cat", "M3", "747"])[2]) == 3


def test_folders_of_another_language_are_named(tmp_path, log):
    make_class_folders(tmp_path, {"entrenamiento": 6, "prueba": 6})
    load("folder", tmp_path)
    assert "classes are entrenamiento, prueba, and each has the folders owl, red_fox" in log.text


def test_a_copy_of_the_class_folders_among_them_is_refused(tmp_path):
    make_class_folders(tmp_path, {"": 3, "data": 3})
    with pytest.raises(InputError, match="/data contains folders with the names of its siblings"):
        load("folder", tmp_path)


def test_twins_are_named_as_their_folders_are(tmp_path):
    make_class_folders(tmp_path, {"": 3})
    shutil.copytree(tmp_path / "red_fox", tmp_path / "red fox")
    with pytest.raises(InputError, match="'red fox', 'red_fox' are the same text"):
        load("folder", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("owl a\nowl b\nred_fox c\nsea_lion d", "names 'owl' twice, 'a' and 'b'"),
        ("big owl a\nbig fox b", "names 'big' twice.* a tab before the name"),
    ],
)
def test_a_folder_has_one_name(tmp_path, text, message):
    make_class_folders(tmp_path, {"": 3})
    (tmp_path / "classnames.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        load("folder", tmp_path)


def test_a_class_without_images_is_refused_with_what_it_has(tmp_path):
    make_class_folders(tmp_path, {"": 3})
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "a.heic").touch()
    with pytest.raises(InputError, match=r"such as bird; .* without an image's suffix \(a.heic\)"):
        load("folder", tmp_path)


def test_tables_as_programs_write_them(tmp_path):
    write_list(tmp_path)
    path = tmp_path / "list.csv"
    path.write_text(path.read_text() + "\n\n,,\n,,,,\n")
    assert sum(map(len, load("csv", tmp_path, file="list.csv").values())) == 21
    path.write_text("path,class,Class\na.jpg,a,b\n")
    with pytest.raises(InputError, match="a repeated column: path, class, Class"):
        load("csv", tmp_path, file="list.csv")
    path.write_text("path,label\ntrain/owl/000.jpg,0.0\ntrain/red_fox/000.jpg,1.0\n")
    with pytest.raises(InputError, match="are numbers"):
        load("csv", tmp_path, file="list.csv")


@pytest.mark.parametrize("form", ["{}.0", "{}", "-{}"])
@pytest.mark.parametrize("column", ["label", "class"])
def test_labels_count_as_numbers_however_programs_write_them(tmp_path, column, form):
    labels = {form.format(n): name for n, name in ((2, "bee"), (10, "ant"), (1, "cat"))}
    rows = []
    for label, name in labels.items():
        for i in range(4):
            save_image(tmp_path / f"{name}{i}.png", 9, i)
            rows.append(f"{name}{i}.png,{label}")
    (tmp_path / "list.csv").write_text("\n".join([f"path,{column}", *rows]))
    with pytest.raises(InputError, match="are numbers"):
        load("csv", tmp_path, file="list.csv")
    expected = ("cat", "bee", "ant")[:: -1 if form.startswith("-") else 1]
    for zeros in ("", ".0"):
        named = (f"{label.removesuffix('.0')}{zeros} {name}" for label, name in labels.items())
        (tmp_path / "classnames.txt").write_text("\n".join(named))
        for classes, names in (("all", expected), ("base", expected[:2])):
            data = load("csv", tmp_path, file="list.csv", classes=classes)
            assert data["train"].metainfo["classes"] == names
            assert all(names[label] in path for path, label in labelled(data["train"]))


def test_classnames_txt_names_classes_but_not_where_a_label_has_one(tmp_path, log):
    for form, header in ((".jpg,n{}", "path,class"), (".jpg,{},{}", "path,label,class")):
        rows = [f"{n}-{i}" + form.format(n, n) for n in (1, 2) for i in range(4)]
        (tmp_path / "list.csv").write_text("\n".join([header, *rows]))
        (tmp_path / "classnames.txt").write_text("n1 owl\nn2 fox")
        data = ClassificationData("csv", str(tmp_path), file="list.csv", lazy_init=True)
        assert data.source.class_names() == (
            ("owl", "fox") if "label" not in header else ("1", "2")
        )
    assert "which does not describe the object; rename them" in log.text
    assert "which does not describe the object; rename them, or" not in log.text


@pytest.mark.parametrize(
    ("text", "names", "warning"),
    [
        ("0 owl\n1 red_fox\n2 sea_lion", ("owl", "red fox", "sea lion"), "name for 'owl' (3 of 3"),
        ("owl barn owl", ("barn owl", "red fox", "sea lion"), "name for 'red_fox' (2 of 3"),
        ("owl\nred_fox\nsea_lion", ("owl", "red fox", "sea lion"), "has the line 'owl'"),
    ],
)
def test_classes_in_words_do_not_need_classnames_txt(tmp_path, log, text, names, warning):
    write_list(tmp_path)
    (tmp_path / "classnames.txt").write_text(text)
    data = load("csv", tmp_path, file="list.csv")
    assert data["train"].metainfo["classes"] == names
    assert warning in log.text
    path = tmp_path / "list.csv"
    path.write_text(path.read_text().replace("path,class", "path,label"))
    with pytest.raises(InputError, match="classnames.txt has"):  # a label is no name
        load("csv", tmp_path, file="list.csv")
    rows = [f"{line},{line.split(',')[1]}" for line in path.read_text().splitlines()[1:]]
    path.write_text("\n".join(["path,label,split,class", *rows]))
    data = load("csv", tmp_path, file="list.csv")  # no class is without a name
    assert data["train"].metainfo["classes"] == ("owl", "red fox", "sea lion")


def test_numbers_before_all_names_are_doubtful():
    assert (
        "all begin with a number, such as '001.Tern'" in name_problems(["001.Tern", "2_owl"])[2][0]
    )
    assert not name_problems(["7 up", "cola"])[2]


def test_an_animation_among_the_images_is_said(tmp_path, log):
    make_class_folders(tmp_path, SPLITS)
    animation(tmp_path / "train" / "owl" / "a.gif", 4)
    load("folder", tmp_path)
    assert (
        "1 train images have several frames or pages; only the first is used"
        " (train/owl/a.gif: 4)" in log.text
    )


def photographs_of_the_api(folder) -> list[str]:
    def skip(name: str, error: Exception) -> None:
        raise error

    return [source.content for source in several(folder, skip)]


@pytest.mark.parametrize(
    "read",
    [photographs_of_the_api, lambda folder: split_arguments([folder])[1]],
    ids=["api", "tool"],
)
def test_photographs_that_are_not_read_are_named(tmp_path, log, read):
    folder = str(tmp_path / "photos")
    for name in ("a/1.jpg", "2.png", ".hidden.jpg", "@eaDir/3.jpg"):
        save_image(tmp_path / "photos" / name, 1, 0)
    wanted = [f"{folder}/2.png", f"{folder}/a/1.jpg"]
    assert sorted(read(folder)) == wanted and "left out" not in log.text
    (tmp_path / "photos" / "a" / "4.HEIC").write_bytes(b"")
    assert sorted(read(folder)) == wanted
    assert f"{folder}: left out 2 hidden, 1 without an image's suffix (a/4.HEIC)" in log.text
    with pytest.raises(InputError, match=r"has no images \(left out 1 .*4.HEIC\)\): convert them"):
        (tmp_path / "photos" / "a" / "1.jpg").unlink()
        read(f"{folder}/a")
