"""What a user of tuner files is promised: the numbers of tools/test.py, for any kind of input."""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image

from mmsdpt.apis import Classifier, Detector, turns
from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.utils.errors import InputError
from tests.apis.conftest import CLASSES, run_test_tool


@pytest.fixture(scope="module")
def detector(tuned) -> Detector:
    return Detector(tuned, device="cpu")


@pytest.fixture(scope="module")
def classifier(tuned_clip) -> Classifier:
    return Classifier(tuned_clip, device="cpu")


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("boxes", "scores", "labels"))


# ---------------------------------------------------------------------- equal to the test tool


@pytest.mark.parametrize("with_config", [False, True])
def test_boxes_are_those_of_the_test_tool_to_the_bit(
    with_config, tuned, make_tiny_cfg, squares, tmp_path
):
    cfg = make_tiny_cfg(tmp_path)
    cfg.tuner_files = dict(default=str(tuned))
    config = None
    if with_config:
        config = tmp_path / "config.json"
        config.write_text(json.dumps(cfg.to_dict()))
    found = run_test_tool(cfg)
    results = Detector(tuned, config=config, device="cpu", batch_size=4)(squares, threshold=0)
    assert [Path(result.path).name for result in results] == sorted(found)
    for result, sample in zip(results, (found[name] for name in sorted(found)), strict=True):
        expected = sample.pred_instances
        assert len(result) == len(expected) > 0
        assert np.array_equal(result.boxes, expected.bboxes.numpy())
        assert np.array_equal(result.scores, expected.scores.numpy())
        assert np.array_equal(result.labels, expected.labels.numpy())


def test_probabilities_are_those_of_the_test_tool_to_the_bit(classifier, tuned_clip, clip_cfg):
    cfg = clip_cfg.copy()
    cfg.tuner_files = dict(default=str(tuned_clip))
    found = run_test_tool(cfg)
    results = classifier(
        str(Path(cfg.data_root).parent / cfg.test_dataloader.dataset.data_root / "test"),
        batch_size=100,
    )
    assert len(results) == len(found) == 6
    for result in results:
        expected = found[Path(result.path).name].pred_score.numpy()
        assert np.array_equal(result.scores, expected)


# ---------------------------------------------------------------------- inputs


def test_a_path_an_array_and_a_pil_image_give_the_same_boxes(detector, squares):
    expected = detector(squares[0], threshold=0)
    with Image.open(squares[0]) as image:
        assert same(detector(image, threshold=0), expected)
        assert same(detector(np.asarray(image), threshold=0), expected)
    assert same(detector(Path(squares[0]), threshold=0), expected)


def test_a_generator_is_answered_image_by_image(detector, squares):
    taken = []

    def images() -> Iterator[str]:
        for path in squares:
            taken.append(path)
            yield path

    results = detector(images(), threshold=0)
    assert taken == []
    assert next(results).path == squares[0]
    assert taken == squares[:1]


def test_a_generator_keeps_the_classes_and_template_of_its_call(classifier, squares):
    asked = [
        dict(classes=["red square", "blue square"], template="a {}."),
        dict(classes=["house", "boat"]),
    ]
    expected = [[result.scores for result in classifier(squares, **words)] for words in asked]
    streams = [classifier(iter(squares), **words) for words in asked]
    for results, scores in zip(
        zip(*streams, strict=True), zip(*expected, strict=True), strict=True
    ):
        classifier(squares[0], template="no {}.")
        assert [result.classes for result in results] == [tuple(w["classes"]) for w in asked]
        assert np.array_equal([result.scores for result in results], scores)


def test_a_generator_keeps_the_switches_of_its_call(detector, classifier, squares):
    for model, options in ((detector, dict(threshold=0)), (classifier, {})):
        tuned = model(squares[0], **options)
        with model.tuners_off():
            base = model(squares[0], **options)
            stream_of_base = model(iter(squares[:1]), **options)
        stream_of_tuned = model(iter(squares[:1]), **options)
        assert np.array_equal(next(stream_of_base).scores, base.scores)
        with model.tuners_off():
            assert np.array_equal(next(stream_of_tuned).scores, tuned.scores)
        assert model.model.tuners.default.enabled
        assert not np.array_equal(base.scores, tuned.scores)


def test_a_template_is_of_its_call_alone(tuned_clip, squares):
    classifier = Classifier(tuned_clip, device="cpu")
    classifier.recipe.templates = []  # as of a file that says none
    with classifier.tuners_off():
        before = classifier(squares[0]).scores
        assert not np.array_equal(classifier(squares[0], template="no {}.").scores, before)
        assert np.array_equal(classifier(squares[0]).scores, before)


def test_an_empty_template_is_not_taken_for_none(classifier, squares):
    for template, said in (("", "the template '' must be"), ([], "list of templates is empty")):
        with pytest.raises(InputError, match=said):
            classifier(squares[0], template=template)


def test_broken_images_of_a_folder_are_reported_and_skipped(detector, squares, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(squares[0], tmp_path / folder / "same name.png")
    (tmp_path / "a" / "broken.jpg").write_bytes(b"no image")
    results = detector(tmp_path, threshold=0)
    assert [result.source.name for result in results] == ["a/same name.png", "b/same name.png"]
    assert same(results[0], results[1]) and same(results[0], detector(squares[0], threshold=0))
    ((name, reason),) = results.skipped
    assert name == "a/broken.jpg" and "not an image that can be read" in reason
    pictures = results.save(tmp_path / "out")
    assert len(set(pictures)) == 2 and all(Image.open(path).width >= 640 for path in pictures)
    with pytest.raises(InputError, match="would overwrite one of the images"):
        results.save(tmp_path)
    with pytest.raises(InputError, match="not an image that can be read"):
        detector(tmp_path / "a" / "broken.jpg")


def test_of_an_animation_the_first_frame_is_used_and_that_is_said(detector, tmp_path, monkeypatch):
    pictures = [Image.new("RGB", (64, 64), (80 * i, 0, 0)) for i in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    said = []
    monkeypatch.setattr("mmsdpt.apis.base.report", lambda *words, **_: said.append(words))
    result = detector(tmp_path / "a.gif", threshold=0)
    assert said == [("a.gif", "only the first of 3 frames or pages is used")]
    assert same(result, detector(pictures[0], threshold=0))


@pytest.mark.parametrize(
    "bad, reason",
    [
        (3, "got"),
        ("https://a/b.png", "images are read from files: download https://a/b.png first"),
        (np.zeros((4, 4, 3)), "got"),
        (np.zeros((4, 4, 4), np.uint8), "got"),
        (np.zeros((1, 300, 3), np.uint8), "too thin, 300x1 pixels"),
        (Image.new("L", (1, 300)), "too thin, 1x300 pixels"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "not finite"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(detector, bad, reason):
    with pytest.raises(InputError, match=reason):
        detector(bad)
    ((_, said),) = detector([bad]).skipped
    assert reason in said


@pytest.mark.parametrize(
    "thing",
    [
        b"PNG",
        bytearray(b"PNG"),
        memoryview(b"PNG"),
        io.BytesIO(b"PNG"),
        {"a.png": 1},
        torch.ones(2),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_image_and_no_list_of_images_is_no_generator(detector, classifier, thing):
    for call in (detector, classifier, classifier.features):
        with pytest.raises(InputError, match=f"got a {type(thing).__name__}: open bytes"):
            call(thing)


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_call_takes_no_other_batch_sizes_than_the_constructor(classifier, squares, size):
    with pytest.raises(InputError, match="batch_size must be a positive integer"):
        classifier(squares, batch_size=size)


@pytest.mark.parametrize("threshold", [30, -0.1, float("nan")])
def test_a_threshold_is_between_0_and_1(detector, squares, threshold):
    with pytest.raises(InputError, match="threshold must be between 0 and 1, got"):
        detector(squares, threshold=threshold)


def test_features_have_a_row_for_each_image(classifier, squares, tmp_path):
    assert classifier.features([]).shape == (0, 128)
    assert classifier.features(squares[0]).shape == (1, 128)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    with pytest.raises(InputError, match="1 of 3 images cannot be read.*: leave out bad.jpg"):
        classifier.features([squares[0], bad, squares[1]])
    with pytest.raises(InputError, match="not an image that can be read"):
        classifier.features(bad)
    with pytest.raises(InputError, match="got a generator"):
        classifier.features(path for path in squares)


# ---------------------------------------------------------------------- classes and slots


def test_other_classes_than_the_trained_ones_can_be_looked_for(detector, squares):
    assert detector.classes == CLASSES
    result = detector(squares[0], classes=["green circle", "red square", "tree"], threshold=0)
    assert result.classes == ("green circle", "red square", "tree")
    assert set(result.names) <= set(result.classes)
    assert not np.array_equal(result.scores, detector(squares[0], threshold=0).scores)
    with pytest.raises(InputError, match="no classes are known"):
        detector(squares[0], classes=[])


def test_more_names_than_a_caption_takes_share_several(detector, squares):
    names = ["blue square", *(f"thing {i}" for i in range(300)), "red square"]
    with pytest.raises(InputError, match=r"caption of 302 classes .* chunked_size=40"):
        detector(squares[0], classes=names)
    with pytest.raises(InputError, match=r"caption of 20 classes .* chunked_size=10,"):
        detector(squares[0], classes=[f"{'very ' * 12}large thing {i}" for i in range(20)])
    (result, *_) = detector(squares, classes=names, chunked_size=40, threshold=0)
    assert result.labels.max() >= 40 and result.names == [names[i] for i in result.labels]
    assert (np.diff(result.scores) <= 0).all() and (np.diff(result.labels) < 0).any()
    first = detector(squares[0], classes=names[:40], threshold=0)
    of_first = result.labels < 40
    assert np.array_equal(result.scores[of_first], np.sort(first.scores)[::-1])
    with pytest.raises(InputError, match="lower chunked_size, which is 301"):
        detector(squares[0], classes=names, chunked_size=301)
    with pytest.raises(InputError, match="chunked_size must be a positive integer, got 0"):
        detector(squares[0], classes=names, chunked_size=0)
    with pytest.raises(InputError, match="302 classes"):  # it was for those calls alone
        detector(squares[0], classes=names)


def test_classes_may_be_an_array_and_are_no_text(detector, classifier, squares):
    for model in (detector, classifier):
        result = model(squares[0], classes=np.array(["tree", "square"]))
        assert result.classes == ("tree", "square") and {*map(type, result.classes)} == {str}
        with pytest.raises(InputError, match="1.* is a int64, not a string"):
            model(squares[0], classes=np.array([1, 2]))
        with pytest.raises(InputError, match="list of names"):
            model(squares[0], classes="red square")


def test_tuners_off_is_the_base_model_and_two_slots_stack(detector, tuned, squares):
    expected = detector(squares[0], threshold=0)
    two = Detector({"first": tuned, "second": tuned}, device="cpu")
    assert two.slots == ("first", "second")
    assert not same(two(squares[0], threshold=0), expected)
    with two.tuners_off("first"):
        assert same(two(squares[0], threshold=0), expected)
    with detector.tuners_off(), two.tuners_off():
        base = detector(squares[0], threshold=0)
        assert same(two(squares[0], threshold=0), base) and not same(base, expected)
    assert same(detector(squares[0], threshold=0), expected)
    with pytest.raises(InputError, match="no slot 'third'; the slots are: first, second"):
        two.enable("third")


def test_threads_take_turns_with_one_object(detector, squares, monkeypatch):
    """Or a call is computed with the switches of another, and two overlapping blocks leave the
    tuners off for good.
    """
    said: list[str] = []
    monkeypatch.setattr(turns, "print_log", lambda text, *_: said.append(text))
    monkeypatch.setattr(detector._lock, "patience", 0.1)
    expected = detector(squares[0], threshold=0)
    inside, leave = threading.Event(), threading.Event()

    def other_block() -> None:
        with detector.tuners_off():
            inside.set()
            leave.wait(60)

    with ThreadPoolExecutor() as pool:
        with detector.tuners_off():
            call = pool.submit(detector, squares[0], threshold=0)
            block = pool.submit(other_block)
            inside.wait(0.5)
        leave.set()
        assert same(call.result(), expected)
        block.result()
    assert said and all("another thread" in text for text in said)
    assert same(detector(squares[0], threshold=0), expected)


def test_an_object_can_be_copied_and_pickled(detector, squares):
    expected = detector(squares[0], threshold=0)
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert same(other(squares[0], threshold=0), expected)
        other.enable(on=False)
    assert same(detector(squares[0], threshold=0), expected)


def test_clip_takes_any_words_and_templates_and_gives_features(classifier, squares):
    result = classifier(squares[0], classes=["house", "boat", "red square"], template="a {}.")
    assert result.scores.shape == (3,) and result.scores.sum() == pytest.approx(1)
    assert result.top(2)[0] == (result.name, result.score)
    assert classifier(squares[0]).classes == ("blue", "green", "red")
    image, text = classifier.features(squares), classifier.text_features()
    assert image.shape == (4, 128) and text.shape == (3, 128)
    scale = float(classifier.model.logit_scale.exp())
    logits = scale * image[0] @ text.T
    expected = np.exp(logits - logits.max())
    scores = classifier(squares[0]).scores
    assert np.allclose(scores, expected / expected.sum(), atol=1e-5)


def test_each_class_refuses_the_other_host(tuned, tuned_clip):
    with pytest.raises(InputError, match="use Classifier"):
        Detector(tuned_clip)
    with pytest.raises(InputError, match="use Detector"):
        Classifier(tuned)


# ---------------------------------------------------------------------- results


def test_a_config_whose_data_set_draws_its_images_is_refused(repository):
    with pytest.raises(InputError, match="does not read image files"):
        Classifier(config=repository / "configs/mini/zero_shot_mini_clip.py", device="cpu")


def test_a_device_that_is_not_here_is_refused(tuned):
    with pytest.raises(InputError, match="device='gpu' cannot be used here: "):
        Detector(tuned, device="gpu")


def test_no_weights_are_called_missing_that_the_base_brings(repository, monkeypatch):
    said = []
    logger = MMLogger.get_instance("weights of the base")  # the current one from here on
    monkeypatch.setattr(logger, "callHandlers", lambda record: said.append(record.msg))
    file = repository / "projects" / "model_zoo" / "sdpt_mini_glip_thermal.safetensors"
    Detector(file, device="cpu")
    assert said and not any("comes without weights" in text for text in said)
    BertModel(name="mmsdpt://mini_bert")
    assert "comes without weights" in said[-1]


def test_results_go_out_as_json_and_coco(detector, squares, tiny_folder, tmp_path):
    from pycocotools.coco import COCO

    results = detector(squares, threshold=0)
    content = json.loads(results.to_json(tmp_path / "results.json"))
    assert json.loads((tmp_path / "results.json").read_text()) == content
    first = content["results"][0]["detections"][0]
    assert first["name"] == results[0].names[0]
    assert first["box"] == pytest.approx(results[0].boxes[0].tolist())

    (tmp_path / "other.json").write_text('{"images": [{}]}')
    with pytest.raises(InputError, match="other.json is not an annotation file of COCO"):
        results.to_coco(tmp_path / "other.json")
    annotations = tiny_folder / "squares/annotations.json"
    (tmp_path / "coco.json").write_text(json.dumps(results.to_coco(annotations)))
    coco = COCO(annotations).loadRes(str(tmp_path / "coco.json"))
    for image_id, result in enumerate(results):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        assert [coco.cats[each["category_id"]]["name"] for each in found] == result.names
        x, y, w, h = found[0]["bbox"]
        assert np.allclose([x, y, x + w, y + h], result.boxes[0])
    with pytest.raises(InputError, match="has no class tree"):
        detector(squares, threshold=0, classes=["tree"]).to_coco(annotations)


def test_a_result_is_not_saved_in_a_format_that_no_picture_has(detector, squares, tmp_path):
    with pytest.raises(InputError, match="pictures cannot be written as .bmp, got .*a.bmp: use"):
        detector(squares[0]).save(tmp_path / "a.bmp")


def test_no_picture_takes_the_place_of_another_image(detector, squares, tmp_path):
    with Image.open(squares[0]) as image:
        for name in ("a.bmp", "a.bmp.png"):
            image.save(tmp_path / name)
    before = (tmp_path / "a.bmp.png").read_bytes()
    with pytest.raises(InputError, match="a.bmp.png would overwrite one of the images"):
        detector([tmp_path / "a.bmp"] + [tmp_path / "a.bmp.png"]).save(tmp_path)
    assert (tmp_path / "a.bmp.png").read_bytes() == before


def test_supervision_is_named_where_it_is_missing(detector, squares, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        detector(squares[0]).to_supervision()


def test_boxes_go_to_supervision(detector, squares):
    pytest.importorskip("supervision", reason="pip install supervision")
    result = detector(squares[0], threshold=0)
    found = result.to_supervision()
    assert np.array_equal(found.xyxy, result.boxes) and len(found) == len(result) > 0
    assert list(found.data["class_name"]) == result.names
