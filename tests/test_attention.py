"""Promises of attention maps: weights are those of the model, shares are those of the maps."""

from __future__ import annotations

import copy
import json
import re
import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from safetensors.torch import save_file

from mmsdpt.analysis.attention import (
    CLASS_TOKEN,
    PROTOTYPES,
    Look,
    _spread,
    class_token_weights,
    cover,
    look_of_classifier,
    look_of_detector,
    share_inside,
    xmha_weights,
)
from mmsdpt.analysis.attention_page import (
    _Scene,
    _shares,
    _shorten_caption,
    show_attention,
    summary,
)
from mmsdpt.analysis.compare import _folders
from mmsdpt.analysis.models import Pictures, split_arguments
from mmsdpt.apis.loading import _by_slot
from mmsdpt.hosts.grounding.fusion import BiMultiHeadAttention
from mmsdpt.hosts.grounding.seams import FusionTokens
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import save_tuner
from mmsdpt.utils.errors import InputError
from mmsdpt.visualization import Boxes
from tests.hosts.small_clip import NAMES, tuned_clip
from tests.hosts.small_glip import build_mini_glip, make_images, make_samples
from tests.run_tools import run
from tests.test_demo import CLASSES, CONFIG, write_split

SDPT = dict(type="mmsdpt.SDPT", num_tokens=3)


@pytest.mark.parametrize("tuned", [False, True], ids=["plain", "with tokens"])
def test_recorded_weights_times_values_are_what_xmha_returns(tuned):
    torch.manual_seed(0)
    layer = BiMultiHeadAttention(12, 20, 32, 4).double().eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    image_tokens, text_tokens = torch.randn(3, 12).double(), torch.randn(2, 20).double()
    if tuned:
        tokens = FusionTokens(image_tokens, text_tokens)
        layer.seam.tokens = lambda own_words: tokens
    vision, lang = torch.randn(2, 9, 12).double(), torch.randn(2, 5, 20).double()
    text_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    image_mask = torch.zeros(2, 9, dtype=torch.bool)
    image_mask[0, 4:] = True
    masks = dict(attention_mask_v=image_mask, attention_mask_l=text_mask)
    with torch.no_grad():
        delta_v, delta_l = layer(vision, lang, **masks)
        weights = xmha_weights(layer, vision, lang, **masks)

        def values(x, tokens, linear):
            x = torch.cat([x, tokens.expand(2, -1, -1)], dim=1) if tuned else x
            return linear(x).unflatten(-1, (4, 8)).transpose(1, 2)

        for found, wanted, out in (
            (weights.image_to_text @ values(lang, text_tokens, layer.values_l_proj),
             delta_v, layer.out_v_proj),
            (weights.text_to_image[:, :, :5] @ values(vision, image_tokens, layer.values_v_proj),
             delta_l, layer.out_l_proj),
        ):  # fmt: skip
            torch.testing.assert_close(out(found.transpose(1, 2).flatten(2)), wanted)
    assert (weights.image_to_text[1, :, :, 3:5] == 0).all()  # padding


def test_recorded_weights_times_values_are_what_the_class_token_gets_in_clip():
    host = tuned_clip(dict(type="mmsdpt.VPT", num_tokens=2)).double()
    seen = {}

    def of_norm(i, norm, args, out):
        attention = host.visual.layers[i].attn
        values = attention.qkv(out)[..., -out.shape[-1] :]
        weights = class_token_weights(host.visual.layers[i], out)
        values = values.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        seen[i] = [(weights[:, :, None] @ values).transpose(1, 2).flatten(2)[:, 0]]

    for i, block in enumerate(host.visual.layers):
        block.ln1.register_forward_hook(partial(of_norm, i))
        block.attn.proj.register_forward_hook(
            lambda proj, args, out, i=i: seen[i].append(args[0][:, 0])
        )
    with torch.no_grad():
        host.encode_image(torch.randn(2, 3, 32, 32).double())
    assert len(seen) == 3
    for found, wanted in seen.values():
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_look_leaves_the_detector_and_its_outputs_as_they_were(recompute):
    host = build_mini_glip(tuner=SDPT, bbox_head=dict(use_checkpoint=recompute)).eval()
    images, (sample,) = make_images(1, (96, 128), torch.float32), make_samples([("cat", "red dog")])
    sample.set_metainfo(dict(img_shape=(96, 100)))
    with torch.no_grad():
        before = host._forward(images, [sample])[0]
        tuned = look_of_detector(host, images, sample, lambda scores: ["red dog"])
        with host.tuners_off():
            plain = look_of_detector(host, images, sample, lambda scores: list(scores))
        after = host._forward(images, [sample])[0]
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)
    assert tuned.rows == ("cat", "red dog", PROTOTYPES) and plain.rows == ("cat", "red dog")
    assert tuned.attention.shape[2:] == (3, 12, 16) and tuned.attention.min() >= 0
    assert tuned.shown_rows() == ["red dog", PROTOTYPES]
    assert tuned.evidence.shape == (1, 12, 16) and tuned.evidence.max() > 0
    assert tuned.valid[:, :12].min() == 1 and tuned.valid[:, 13:].max() == 0
    # Without tokens on the image side nothing but the image is looked at.
    torch.testing.assert_close(plain.attention.sum((-1, -2)), torch.ones(2, 4, 2))
    assert not torch.allclose(tuned.attention[:, :, :2], plain.attention)
    assert all(p.grad is None for p in host.parameters())


def test_a_look_takes_the_words_of_a_caption_prompt():
    host, images = build_mini_glip().eval(), make_images(1, (96, 128), torch.float32)
    (prompted,) = make_samples([("cat", "dog")])
    prompted.set_metainfo(dict(caption_prompt={"cat": dict(name="red raccoon")}))
    (written,) = make_samples([("red raccoon", "dog")])
    found, wanted = (
        look_of_detector(host, images, sample, lambda scores: list(scores))
        for sample in (prompted, written)
    )
    assert list(found.scores.values()) == list(wanted.scores.values())
    assert torch.equal(found.attention, wanted.attention)
    assert torch.equal(found.evidence, wanted.evidence)


def test_a_look_of_clip_has_the_class_token_and_each_chosen_class():
    host = tuned_clip(dict(type="mmsdpt.VPT", num_tokens=2))
    images = torch.randn(1, 3, 32, 32)
    found = look_of_classifier(host, images, None, lambda scores: [NAMES[2], NAMES[0]])
    assert found.rows == (CLASS_TOKEN,) and found.attention.shape == (3, 2, 1, 4, 4)
    assert found.attention.sum((-1, -2)).max() < 1  # the prompts and the class token have a share
    assert found.classes == (NAMES[2], NAMES[0]) and found.evidence.abs().max() <= 1
    assert sum(found.scores.values()) == pytest.approx(1)


def test_the_share_inside_boxes_is_that_of_the_map():
    inside = cover(torch.tensor([[0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 12.0, 8.0]]), (16, 16), (2, 2))
    assert inside.tolist() == [[1.0, 0.25], [0.0, 0.0]]  # where boxes overlap counts once
    maps = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    assert share_inside(maps, inside, torch.ones(2, 2)) == 1.5 / 8
    assert share_inside(maps, inside, torch.tensor([[1.0, 1.0], [0.0, 0.0]])) == 1.5 / 3


def test_a_class_that_is_not_in_the_image_has_no_share():
    truth = Boxes([[0, 0, 8, 8]], [0])
    extent = (0.0, 16.0, 16.0, 0.0)
    scene = _Scene(SimpleNamespace(name="1"), None, extent, (16, 16), truth, (1.0, 1.0))
    maps, scores = torch.ones(1, 1, 2, 2, 2), dict(cat=0.5, dog=0.5)
    look = Look(("cat", "dog"), maps, ("cat", "dog"), maps[0, 0], scores, torch.ones(2, 2))
    found = list(_shares(scene, {"before": look}, ["cat", "dog"]))
    assert {row["what"] for row in found} == {"cat"}
    assert {(row["share"], row["boxes"]) for row in found} == {(0.25, 0.25)}


def test_levels_of_a_pyramid_keep_their_mass_and_place():
    sizes = [(4, 4), (2, 2)]
    maps = torch.zeros(20)
    maps[0], maps[19] = 0.25, 0.75  # the first fine cell and the last coarse one
    (found,) = _spread(maps[None], sizes, mass=True)
    assert found.sum() == pytest.approx(1)
    assert found[0, 0] == 0.25 and found[2:, 2:].sum() > 0.5 and found[0, 1] == 0
    assert _spread(torch.ones(1, 20), sizes, mass=False).unique().tolist() == [1.0]


@pytest.fixture(scope="module")
def squares(tmp_path_factory, repository):
    """A tiny detection task, its config and a tuner file of random values."""
    folder = tmp_path_factory.mktemp("squares")
    write_split(folder, "test", 2)
    text = CONFIG.format(repository=repository, folder=folder, classes=CLASSES)
    (folder / "tiny.py").write_text(text)
    cfg = Config.fromfile(folder / "tiny.py")
    init_default_scope("mmdet")
    host = MODELS.build(cfg.model)
    host.init_weights()
    state = {k: v for k, v in host.state_dict().items() if not k.startswith("tuners.")}
    save_file(state, folder / "base.safetensors")
    save_tuner(host, folder / "tuner.safetensors")
    return cfg, folder


def test_attention_of_test_images_gives_a_page_pictures_and_shares(squares, tmp_path):
    cfg, folder = squares
    tuners, images = split_arguments([str(folder / "tuner.safetensors")])
    assert list(tuners) == ["SDPT"] and images == []
    page, table = show_attention(
        cfg, tuners, images, tmp_path, words=["red square"], count=1, layers=True
    )
    assert page.is_file() and len(list(tmp_path.glob("1.png*.png"))) == 4
    # A class in two models, the tokens in one; 3 layers, 4 heads and both means; Grad-CAM.
    assert len(table[table["view"] == "attention"]) == 3 * 4 * 5 and len(table) == 3 * 4 * 5 + 2
    assert table["share"].between(0, 1).all()
    # Two squares of 32 x 32 in 96 x 96.
    tokens = table[table["what"] == PROTOTYPES]
    assert tokens["boxes"].iloc[0] == pytest.approx(2 / 9, rel=0.05)
    assert "attention: prototype tokens" in summary(table)


def test_a_photograph_of_ones_own_is_compared_without_a_truth(squares, tmp_path, monkeypatch):
    """Through the command line, with one more class to look for."""
    _, folder = squares
    own = tmp_path / "own <1>.png"
    own.write_bytes((folder / "images" / "test" / "1.png").read_bytes())
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "visualize.py"))
    command = ["compare", str(folder / "tiny.py"), f"mine={folder / 'tuner.safetensors'}", str(own)]
    command += ["--classes", "green star", "--score-thr", "0", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["visualize.py", *command])
    tool["main"]()
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "own &lt;1&gt;.png" in text
    assert re.search(r"before: [1-5] found; mine: [1-5] found", text)
    assert (tmp_path / "out" / "before" / "own <1>.png.png").is_file()
    assert (tmp_path / "out" / "mine" / "own <1>.png.png").is_file()


def test_attention_in_a_tall_image_is_drawn_within_measure(squares, tmp_path):
    cfg, _ = squares
    pixels = np.random.default_rng(0).integers(0, 256, (800, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "tall.png")
    show_attention(cfg, {}, [str(tmp_path / "tall.png")], tmp_path / "out", words=["red square"])
    with Image.open(tmp_path / "out" / "tall.png.png") as drawn:
        assert drawn.height < 8_000 and drawn.width > 500


def test_the_truth_has_its_own_names_whatever_the_order_of_the_configs_classes(squares):
    cfg, _ = squares
    truth = {}
    for classes in (CLASSES, CLASSES[::-1]):
        own = copy.deepcopy(cfg)
        own.test_dataloader.dataset.metainfo.classes = classes
        pictures = Pictures(own)
        assert pictures.words == classes
        items = [picture.item["data_samples"].gt_instances for picture in pictures.choose([], 2)]
        truth[classes] = [[classes[label] for label in item.labels] for item in items]
    assert truth[CLASSES] == truth[CLASSES[::-1]] and len(set(sum(truth[CLASSES], []))) == 2


def test_data_with_errors_are_refused_and_missing_data_only_have_no_truth(squares, tmp_path):
    cfg, folder = squares
    own = copy.deepcopy(cfg)
    dataset = own.test_dataloader.dataset
    path = Path(dataset.data_root or "", dataset.ann_file)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "gone.png"
    (tmp_path / "test.json").write_text(json.dumps(content))
    dataset.ann_file = str(tmp_path / "test.json")
    with pytest.raises(InputError, match="images are missing"):
        Pictures(own)
    dataset.ann_file = str(tmp_path / "none.json")
    (found,) = Pictures(own).choose([str(folder / "images" / "test" / "1.png")], 1)
    assert not found.has_truth


def test_a_broken_image_of_a_folder_is_left_out_and_a_single_one_is_refused(squares, tmp_path):
    cfg, folder = squares
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [str(tmp_path / "broken.png"), str(folder / "images" / "test" / "1.png")]
    pictures = Pictures(cfg)
    (found,) = pictures.choose(paths, 1)
    assert found.path == paths[1] and found.has_truth
    with pytest.raises(InputError, match="broken.png"):
        pictures.choose(paths[:1], 1)


def test_a_caption_of_too_many_classes_is_cut_to_those_that_are_looked_at():
    host = build_mini_glip()
    (sample,) = make_samples([tuple(f"thing number {i} of many" for i in range(80))])
    with pytest.raises(InputError, match="--classes"):
        _shorten_caption(host, sample, [])
    _shorten_caption(host, sample, ["cat", "dog"])
    assert sample.text == ("cat", "dog")
    _shorten_caption(host, sample, ["mouse"])
    assert sample.text == ("cat", "dog")  # short enough


def test_a_tuner_file_may_lie_in_a_folder_with_an_equals_sign(squares, tmp_path):
    path = tmp_path / "lr=0.01x" / "tuner.safetensors"
    path.parent.mkdir()
    path.write_bytes((squares[1] / "tuner.safetensors").read_bytes())
    assert split_arguments([str(path)]) == ({"SDPT": str(path)}, [])
    assert split_arguments([f"a={path}"]) == ({"a": str(path)}, [])
    assert split_arguments([f"before={path}"])[0] == {"before, lr=0.01x": str(path)}
    assert _by_slot([str(path)]) == str(path)
    assert _by_slot([f"a={path}", "b=c"]) == {"a": str(path), "b": "c"}
    with pytest.raises(InputError, match="write SLOT=FILE"):
        _by_slot([str(path), "b=c"])
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "test.py"))
    assert tool["slot_files"]([str(path)], ["default"]) == {"default": str(path)}
    assert tool["slot_files"]([f"b={path}"], ["a", "b"]) == {"b": str(path)}


def test_columns_of_a_page_have_a_folder_each():
    folders = _folders(["before", "C*", "C+", "c_", "..", "", "a/b=1"])
    assert len({folder.lower() for folder in folders.values()}) == 7
    assert folders["before"] == "before" and folders["a/b=1"] == "a_b_1"


def test_files_that_the_tool_cannot_use_are_refused_in_one_sentence(squares, tmp_path):
    _, folder = squares
    tuner = str(folder / "tuner.safetensors")
    with pytest.raises(InputError, match="not found: nowhere.jpg"):
        split_arguments(["nowhere.jpg"])
    with pytest.raises(InputError, match="would have the same name 'a, squares"):
        split_arguments([f"a={tuner}"] * 3)
    with pytest.raises(InputError, match=r"epoch_1.pth is a checkpoint of a run"):
        split_arguments(["epoch_1.pth"])
    with pytest.raises(InputError, match="has no images$"):
        split_arguments([str(tmp_path)])
    names, images = split_arguments([tuner, str(folder)])
    assert list(names) == ["SDPT"] and [Path(p).name for p in images] == ["1.png", "2.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--count", 0], "--count must be a positive integer, got 0"),
        (["attention", "--count", -1], "--count must be a positive integer, got -1"),
        (["compare", "--top-k", -1], "--top-k must be a positive integer, got -1"),
        (["compare", "--score-thr", 30], "--score-thr must be between 0 and 1, got 30"),
    ],
)
def test_numbers_with_which_nothing_is_shown_are_refused(arguments, words, capsys):
    command, *options = arguments
    assert run("visualize.py", command, CONFIG, *options) == 2
    assert words in capsys.readouterr().err
