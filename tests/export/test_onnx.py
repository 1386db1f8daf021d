"""Promises of exported files: the model's numbers at every image size, without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmsdpt.apis import Classifier, Detector
from mmsdpt.apis.inputs import as_source
from mmsdpt.apis.recipe import Recipe
from mmsdpt.utils.errors import InputError
from tests.apis.conftest import CLASSES, COLOURS
from tests.run_tools import run
from tests.shake import shake
from tests.tuners.contract_hosts import registered_methods

pytest.importorskip("onnx", reason='needs pip install "mmsdpt[onnx]"')
pytest.importorskip("onnxruntime", reason='needs pip install "mmsdpt[onnx]"')

from mmsdpt.export import compare, export_onnx  # noqa: E402
from mmsdpt.export import onnx_runtime as runtime  # noqa: E402


@pytest.fixture(scope="module")
def detector(tuned) -> Detector:
    return Detector(tuned, device="cpu")


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory) -> Path:
    return export_onnx(detector, tmp_path_factory.mktemp("onnx") / "detector.onnx")


@pytest.fixture(scope="module")
def exported_clip(tuned_clip, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "classifier.onnx"
    return export_onnx(Classifier(tuned_clip, device="cpu"), path)


@pytest.fixture(scope="module")
def pictures(squares) -> list[np.ndarray]:
    """50 images of 17 sizes, higher and wider than what was traced, in colours that do not commute
    (a swap of red and blue shows).
    """
    opened = [np.asarray(Image.open(path)) for path in squares]
    rng = np.random.default_rng(0)
    found = []
    for i in range(50):
        height, width = 20 + 7 * (i % 17), 140 - 7 * (i % 17)
        image = Image.fromarray(opened[i % len(opened)]).resize((width, height))
        found.append(np.asarray(image) // 2 + rng.integers(0, 99, (height, width, 3), np.uint8))
    return found


# ---------------------------------------------------------------------- numbers


def test_a_detectors_file_gives_the_models_boxes_at_every_size(detector, exported, pictures):
    found = compare(detector, exported, pictures)
    assert found.images == 50 and found.results >= 100 and found.missing == 0
    assert found.score < 1e-4 and found.box < 1e-2


def test_a_classifiers_file_gives_the_models_probabilities(tuned_clip, exported_clip, pictures):
    found = compare(Classifier(tuned_clip, device="cpu"), exported_clip, pictures)
    assert found.results == 50 * len(COLOURS) and 0 < found.score < 1e-4


def test_what_the_file_says_of_itself_is_what_the_model_was_asked_for(detector, tmp_path, pictures):
    words = ["blue square", "green square", "red square"]
    with detector.tuners_off():
        path = export_onnx(detector, tmp_path / "base.onnx", classes=words)
        assert compare(detector, path, pictures[:3]).score < 1e-4
    with_tuner = compare(detector, path, pictures[:3])
    assert with_tuner.score > 1e-4 or with_tuner.missing
    model = runtime.OnnxModel(path, threads=1)
    assert model.classes == words and model.resize == {"within": [64, 64]}
    facts = model.session.get_modelmeta().custom_metadata_map
    assert facts["tuners"] == "{}"
    found = model(pictures[0], threshold=0)
    assert {name for name, _, _ in found} <= set(words)
    assert [score for _, score, _ in found] == sorted((s for _, s, _ in found), reverse=True)
    assert model(pictures[0], threshold=1.1) == []


def test_tokens_of_their_own_words_are_in_the_file(tuned, tmp_path, pictures):
    tuner = dict(type="mmsdpt.SDPT", num_tokens=3, own_words_only=True)
    model = Detector.of(changed(tuned, tuners=dict(a=tuner), files={}), device="cpu")
    (acting,) = model.model.tuners.values()
    acting.prepare()
    acting.trained_classes = (CLASSES[0],)
    shake(acting, 0.1)

    own = export_onnx(model, tmp_path / "own.onnx", classes=[CLASSES[0], "green square"])
    assert compare(model, own, pictures[:12]).score < 1e-4
    other = export_onnx(model, tmp_path / "other.onnx", classes=["green square", "red star"])
    with model.tuners_off():  # no word is the tuner's: the untuned model
        assert compare(model, other, pictures[:4]).score < 1e-4
        untuned = compare(model, own, pictures[:4])
    assert untuned.score > 1e-4 or untuned.missing


def test_an_image_without_any_box_gives_empty_arrays(tuned, tmp_path, pictures):
    model = Detector(tuned, device="cpu")
    model.model.test_cfg.score_thr = model.model.bbox_head.test_cfg.score_thr = 0.9999
    path = export_onnx(model, tmp_path / "strict.onnx")
    boxes, scores, labels = runtime.OnnxModel(path, threads=1).boxes(pictures[0])
    assert boxes.shape == (0, 4) and scores.shape == labels.shape == (0,)
    assert len(model(pictures[0], threshold=0)) == 0


def test_a_file_runs_without_pytorch_and_mmsdpt(exported, detector, squares, tmp_path):
    shutil.copy(runtime.__file__, tmp_path / "onnx_runtime.py")
    script = (
        "import sys, json\n"
        "sys.modules['torch'] = sys.modules['mmsdpt'] = sys.modules['mmengine'] = None\n"
        "from onnx_runtime import OnnxModel\n"
        "print(json.dumps(OnnxModel(sys.argv[1], threads=1)(sys.argv[2], threshold=0)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, exported, squares[0]],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = list(detector(squares[0], threshold=0))
    assert [name for name, _, _ in found] == [each.name for each in expected]
    np.testing.assert_allclose([s for _, s, _ in found], [e.score for e in expected], atol=1e-4)
    np.testing.assert_allclose([b for _, _, b in found], [e.box for e in expected], atol=1e-2)


def image_files(folder: Path, picture: np.ndarray) -> list[Path]:
    """A picture in all that image files hold: modes, depths, transparency, EXIF."""
    image = Image.fromarray(picture)
    grey = np.asarray(image.convert("L"))
    rgba, la = image.convert("RGBA"), image.convert("LA")
    for clear in (rgba, la):
        clear.putalpha(Image.fromarray(255 - grey))
    files = {
        "turned.jpg": image, "turned.png": image, "cmyk.jpg": image.convert("CMYK"),
        "bits.png": image.convert("1"), "grey.png": image.convert("L"),
        "palette.png": image.quantize(), "rgba.png": rgba, "la.png": la, "turned_la.png": la,
        "16.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "turned_12.png": Image.fromarray(grey.astype(np.uint16) * 16),
        "16_of_8.png": Image.fromarray(grey.astype(np.uint16)),
        "32.tif": Image.fromarray(grey.astype(np.int32) * 1000 - 9000),
        "fractions.tif": Image.fromarray((grey / 255).astype(np.float32)),
        "turned.tif": image, "turned_16.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "float.tif": Image.fromarray(grey.astype(np.float32) * 3),
    }  # fmt: skip
    exif = image.getexif()
    exif[0x0112] = 6
    for name, content in files.items():
        content.save(folder / name, **(dict(exif=exif) if "turned" in name else {}))
    return [folder / name for name in files]


def test_a_file_reads_every_image_as_the_model_does(
    detector, exported, tuned_clip, exported_clip, pictures, tmp_path
):
    images = image_files(tmp_path, pictures[4])
    classifier = Classifier(tuned_clip, device="cpu")
    for model, path in ((detector, exported), (classifier, exported_clip)):
        file = runtime.OnnxModel(path, threads=1)
        for image in images:
            expected = model._of_path.transforms[0]({"img_path": str(image)})["img"][..., ::-1]
            assert np.array_equal(np.asarray(file._open(image)), expected), image
            with Image.open(image) as opened:
                expected = as_source(opened).content
                assert np.array_equal(np.asarray(file._open(opened)), expected), image
        assert compare(model, path, images).score < 1e-4


def test_what_cannot_be_read_is_left_out_of_a_comparison(detector, exported, pictures, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    found = compare(detector, exported, [bad, pictures[0], bad])
    assert found.images == 1 and found.results and found.score < 1e-4
    with pytest.raises(InputError, match="none of the 1 images can be used"):
        compare(detector, exported, [bad])


# ---------------------------------------------------------------------- the tool, refusals


def test_the_tool_writes_a_file_and_compares_it(tuned_clip, squares, tmp_path, capsys):
    out, folder = tmp_path / "model.onnx", Path(squares[0]).parent
    words = ["--classes", "boat,green", "--template", "a {}."]
    assert run("export_onnx.py", tuned_clip, out, *words, "--check", folder) == 0
    shown = capsys.readouterr().out
    assert f"{out}: " in shown and f"{len(squares)} images, {2 * len(squares)} results" in shown
    model = runtime.OnnxModel(out, threads=1)
    expected = Classifier(tuned_clip, device="cpu")(
        squares[0], classes=["boat", "green"], template="a {}."
    )
    found = model(squares[0])
    assert [name for name, _ in found] == [name for name, _ in expected.top(2)]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected.top(2)], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.safetensors", "b.safetensors"], "ending in .onnx"),
        (["b.onnx"], "give a tuner file"),
        (["nowhere.safetensors", "b.onnx"], "tuner file not found"),
        (["x.safetensors", "b.onnx", "--classes", ""], "--classes needs different names"),
        (["x.safetensors", "b.onnx", "--classes", "a,a"], "--classes needs different names"),
    ],
)
def test_the_tool_says_in_one_sentence_what_is_wrong(arguments, words, capsys):
    assert run("export_onnx.py", *arguments) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def changed(path: Path, **changes) -> Recipe:
    recipe = Recipe.from_files(str(path))
    for name, value in changes.items():
        setattr(recipe, name, value)
    return recipe


def test_what_a_file_cannot_hold_is_refused(tuned, tuned_clip, tmp_path):
    def refused(kind, recipe, words, **options):
        with pytest.raises(InputError, match=words):
            export_onnx(kind.of(recipe, device="cpu"), tmp_path / "x.onnx", **options)
        assert not (tmp_path / "x.onnx").exists()

    context = dict(tuners=dict(a=dict(type="mmsdpt.CoCoOp")), files={})
    refused(Classifier, changed(tuned_clip, **context), "depend on the image")
    steps = [dict(type="mmsdpt.LoadPillowImage"), dict(type="PackInputs")]
    refused(Classifier, changed(tuned_clip, pipeline=steps), "test pipelines of GLIP")
    recipe = changed(tuned)
    recipe.model["test_cfg"]["chunked_size"] = 1
    refused(Detector, recipe, "2 classes need 2 captions")
    recipe = changed(tuned)
    recipe.model["test_cfg"]["nms"] = dict(type="soft_nms", iou_threshold=0.5)
    refused(Detector, recipe, "plain nms")
    recipe = changed(tuned)
    recipe.pipeline[0]["color_type"] = "grayscale"
    refused(Detector, recipe, "not color_type='grayscale'")
    refused(Detector, changed(tuned), "a template is for CLIP", template="a {}.")
    refused(Detector, changed(tuned), "list of names", classes="dog")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"no model")
    with pytest.raises(Exception, match="other.onnx"):
        runtime.OnnxModel(other)


def test_all_images_of_a_class_vote_in_the_file_of_a_tip_adapter(tuned_clip, tmp_path, pictures):
    cache = dict(type="mmsdpt.TipAdapter", num_classes=3, shots=4)
    model = Classifier.of(changed(tuned_clip, tuners=dict(a=cache), files={}), device="cpu")
    keys = model.model.tuners["a"].keys
    with torch.no_grad():
        keys.copy_(torch.nn.functional.normalize(torch.randn_like(keys), dim=-1))
    file = export_onnx(model, tmp_path / "cache.onnx")
    assert compare(model, file, pictures[:4]).score < 1e-4


# ---------------------------------------------------------------------- every method

_SETTINGS = dict(
    AdaptFormer=dict(bottleneck=4), Adapter=dict(bottleneck=4), Apollo=dict(bottleneck=4),
    ClassContext=dict(num_classes=2), LoRA=dict(rank=2),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", registered_methods())
def test_every_method_that_a_host_takes_can_be_exported(
    name, tuned, tuned_clip, tmp_path, pictures
):
    """With parameters that matter, on the tiny GLIP and on mini CLIP."""
    tried = 0
    for kind, path in ((Detector, tuned), (Classifier, tuned_clip)):
        tuner = dict(type=f"mmsdpt.{name}", **_SETTINGS.get(name, {}))
        recipe = changed(path, tuners=dict(a=tuner), files={})
        try:
            model = kind.of(recipe, device="cpu")
        except (KeyError, TypeError, ValueError, InputError):
            continue  # a method of the other host, or one that its files alone can build
        (acting,) = model.model.tuners.values()
        if getattr(acting, "text_depends_on_image", False):
            continue
        acting.prepare()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in acting.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        file = export_onnx(model, tmp_path / f"{kind.__name__}.onnx")
        found = compare(model, file, pictures[:4])
        assert found.score < 1e-4 and not found.missing, (kind, found)
        tried += 1
    if not tried:
        pytest.skip("needs what only a training gives it")


@pytest.mark.slow
def test_glip_t_with_random_weights_can_be_exported(repository, tmp_path, pictures):
    from mmengine.config import Config
    from safetensors.torch import save_file

    from mmsdpt.registry import MODELS

    bert = tmp_path / "bert"
    bert.mkdir()
    shutil.copy(repository / "mmsdpt/assets/mini_bert/vocab.txt", bert)
    (bert / "config.json").write_text('{"model_type": "bert", "vocab_size": 2000}')
    cfg = Config.fromfile(repository / "configs/sdpt/glip_t_coco_k10.py")
    cfg.lang_model_name = cfg.model.language_model.name = cfg.model.bbox_head.lang_model_name = str(
        bert
    )
    pipeline = [
        dict(type="LoadImageFromFile", imdecode_backend="pillow"),
        dict(type="FixScaleResize", scale=(200, 320), keep_ratio=True, backend="pillow"),
        cfg.test_dataloader.dataset.pipeline[-1].to_dict(),
    ]
    model = cfg.model.to_dict()
    tuner = model.pop("tuner")
    model["test_cfg"]["score_thr"] = 0.0  # random weights are sure of nothing
    base = MODELS.build(model)
    save_file({k: v.contiguous() for k, v in base.state_dict().items()}, tmp_path / "b.safetensors")
    recipe = Recipe(
        "mmdet", model, dict(default=tuner), str(tmp_path / "b.safetensors"), pipeline,
        classes=list(CLASSES),
    )  # fmt: skip
    detector = Detector.of(recipe, device="cpu")
    path = export_onnx(detector, tmp_path / "glip_t.onnx")
    found = compare(detector, path, pictures[:2])
    assert found.score < 1e-4 and found.results
