"""Conversion of CLIP weights: the features of open_clip's and Hugging Face's own models."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from mmsdpt.hosts.clip import CLIP
from mmsdpt.utils.base_weights import load_base_weights, read_checkpoint
from mmsdpt.utils.clip_weights import convert_file, convert_state
from mmsdpt.utils.errors import InputError
from tests.run_tools import run
from tests.shake import shake

WIDTH, TEXT_WIDTH, LAYERS, JOINT, CONTEXT, VOCABULARY = 128, 64, 2, 32, 20, 4610
TEXTS = ["a photo of a cat.", "two zebras, crossing the street", "x"]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmpretrain")


def host(**changes) -> CLIP:
    """mmsdpt's CLIP in the small size."""
    settings: dict = dict(
        vision_backbone=dict(
            type="VisionTransformer",
            arch=dict(
                embed_dims=WIDTH,
                num_layers=LAYERS,
                num_heads=WIDTH // 64,
                feedforward_channels=4 * WIDTH,
            ),
            img_size=32,
            patch_size=8,
            norm_cfg=dict(type="LN", eps=1e-5),
            layer_cfgs=dict(act_cfg=dict(type="mmpretrain.QuickGELU")),
            pre_norm=True,
        ),
        projection=dict(type="CLIPProjection", in_channels=WIDTH, out_channels=JOINT),
        text_backbone=dict(type="CLIPTransformer", width=TEXT_WIDTH, layers=LAYERS, heads=1),
        tokenizer=dict(folder="mmsdpt://mini_clip"),
        vocab_size=VOCABULARY,
        transformer_width=TEXT_WIDTH,
        proj_dim=JOINT,
        context_length=CONTEXT,
    )
    return CLIP(**(settings | changes)).eval()


def randomised(model: nn.Module) -> nn.Module:
    """No bias zero and no norm one, so that no tensor can be left out or put elsewhere."""
    shake(model, 0.1)
    return model.eval()


def open_clip_model(custom_text: bool = False) -> nn.Module:
    source = pytest.importorskip(
        "open_clip.model", reason="the CLIP to compare with is in open-clip-torch"
    )
    kind = source.CustomTextCLIP if custom_text else source.CLIP
    torch.manual_seed(0)
    model = kind(
        embed_dim=JOINT,
        vision_cfg=source.CLIPVisionCfg(
            layers=LAYERS, width=WIDTH, head_width=64, patch_size=8, image_size=32
        ),
        text_cfg=source.CLIPTextCfg(
            context_length=CONTEXT, vocab_size=VOCABULARY, width=TEXT_WIDTH, heads=1, layers=LAYERS
        ),
        quick_gelu=True,
    )
    return randomised(model)


def hugging_face_model(**text) -> CLIPModel:
    both = dict(projection_dim=JOINT, num_hidden_layers=LAYERS)
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=dict(
            vocab_size=VOCABULARY,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_attention_heads=1,
            max_position_embeddings=CONTEXT,
            bos_token_id=VOCABULARY - 2,
            eos_token_id=VOCABULARY - 1,
            **both,
            **text,
        ),
        vision_config=dict(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_attention_heads=WIDTH // 64,
            image_size=32,
            patch_size=8,
            **both,
        ),
        projection_dim=JOINT,
    )
    return randomised(CLIPModel(config))


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    return open_clip_model()


@torch.no_grad()
def assert_same_features(reference: nn.Module, file: Path | str, model: CLIP | None = None) -> None:
    """Load the file as a run does; features and logit scale must be the reference's."""
    model = model or host()
    state = read_checkpoint(str(file))["state_dict"]
    assert set(state) == set(model.state_dict())
    load_base_weights(model, state, str(file))
    images = torch.randn(2, 3, *model.visual.img_size)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        model, reference = model.to(dtype), reference.to(dtype)
        image, text = reference_features(reference, images.to(dtype), model.tokenizer(TEXTS))
        for got, expected in (
            (model.encode_image(images.to(dtype)), F.normalize(image, dim=-1)),
            (model.encode_text(TEXTS), F.normalize(text, dim=-1)),
            (model.logit_scale, reference.logit_scale),
        ):
            torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)
    reference.to(torch.float32)


def reference_features(model: nn.Module, images: torch.Tensor, ids: torch.Tensor):
    if not isinstance(model, CLIPModel):
        return model.encode_image(images), model.encode_text(ids)
    torch.set_default_dtype(images.dtype)  # transformers makes its mask in the default type
    try:
        found = model.get_image_features(images), model.get_text_features(ids)
        # An object with everything from transformers 5 on.
        return tuple(getattr(each, "pooler_output", each) for each in found)
    finally:
        torch.set_default_dtype(torch.float32)


# ---------------------------------------------------------------------- layouts


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_openai_state_dict_gives_the_features_of_open_clip(reference, tmp_path, suffix):
    torch.save(reference.state_dict(), tmp_path / "clip.pt")
    out = tmp_path / f"out{suffix}"
    line = convert_file(str(tmp_path / "clip.pt"), str(out), "quick_gelu")
    assert_same_features(reference, out)
    assert line == (
        "OpenAI's layout (state dict): image tower of width 128, 2 layers, patch 8, image size 32;"
        " text tower of width 64, 2 layers, context 20, vocabulary 4610; joint width 32;"
        f" {sum(p.numel() for p in reference.parameters()):,} parameters"
    )


def test_training_checkpoint_of_open_clip_is_read_through_its_prefix(reference, tmp_path):
    state = {f"module.{name}": value for name, value in reference.state_dict().items()}
    torch.save(dict(epoch=3, name="run", state_dict=state), tmp_path / "epoch_3.pt")
    convert_file(str(tmp_path / "epoch_3.pt"), str(tmp_path / "out.pth"), "quick_gelu")
    assert_same_features(reference, tmp_path / "out.pth")


def test_open_clip_with_a_text_module_of_its_own_gives_the_same_features(tmp_path):
    reference = open_clip_model(custom_text=True)
    save_file(reference.state_dict(), tmp_path / "clip.safetensors")
    line = convert_file(
        str(tmp_path / "clip.safetensors"), str(tmp_path / "out.safetensors"), "quick_gelu"
    )
    assert line.startswith("open_clip's layout (state dict): ")
    assert_same_features(reference, tmp_path / "out.safetensors")


@pytest.mark.parametrize("form", ["folder", "safetensors", "bin folder", "bin"])
def test_hugging_face_weights_give_the_features_of_transformers(tmp_path, form):
    reference = hugging_face_model()
    folder = tmp_path / "model"
    reference.save_pretrained(folder)
    if form.startswith("bin"):  # as transformers wrote it before 4.31
        file = folder / "pytorch_model.bin"
        (folder / "model.safetensors").unlink()
        state = reference.state_dict()
        for tower, length in (("text", CONTEXT), ("vision", 17)):
            name = f"{tower}_model.embeddings.position_ids"
            state[name] = torch.arange(length).expand(1, -1)
        torch.save(state, file)
    name = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}.get(form, "")
    line = convert_file(str(folder / name), str(tmp_path / "out.safetensors"))
    assert line.startswith("Hugging Face's layout (") and line.endswith(" parameters")
    assert_same_features(reference, tmp_path / "out.safetensors")


class OpenAIStyle(nn.Module):
    """OpenAI's archive: half-precision weights, integer buffers, a mask that scripting saves."""

    def __init__(self, model: nn.Module, half: bool) -> None:
        super().__init__()
        for name, value in (*model.named_children(), *model.named_parameters(recurse=False)):
            setattr(self, name, value)
        for name, value in (
            ("input_resolution", 32),
            ("context_length", CONTEXT),
            ("vocab_size", VOCABULARY),
        ):
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("attn_mask", model.attn_mask)
        self.to(torch.float16 if half else torch.float32)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.visual(image)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("way", ["trace", "script"])
def test_torchscript_archive_gives_the_features_of_open_clip(tmp_path, way, half):
    reference = open_clip_model()
    if half:  # the values that float16 can hold
        reference.half().float()
    module = OpenAIStyle(open_clip_model(), half)
    image = torch.randn(1, 3, 32, 32, dtype=torch.float16 if half else torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, OpenAI's files are not
        if way == "trace":
            archive = torch.jit.trace(module, (image,), check_trace=False)
        else:
            archive = torch.jit.script(module)
        archive.save(str(tmp_path / "ViT.pt"))
    line = convert_file(str(tmp_path / "ViT.pt"), str(tmp_path / "out.safetensors"))
    assert line.startswith("OpenAI's layout (TorchScript archive): ")
    converted = load_file(tmp_path / "out.safetensors")
    assert {value.dtype for value in converted.values()} == {torch.float32}
    assert_same_features(reference, tmp_path / "out.safetensors")


@pytest.mark.slow
def test_vit_b_16_has_its_published_size_and_the_features_of_open_clip(repository, tmp_path):
    factory = pytest.importorskip(
        "open_clip", reason="the CLIP to compare with is in open-clip-torch"
    )
    from mmengine.config import Config

    reference = randomised(factory.create_model("ViT-B-16-quickgelu", pretrained=None))
    torch.save(reference.state_dict(), tmp_path / "clip.pt")
    line = convert_file(str(tmp_path / "clip.pt"), str(tmp_path / "out.safetensors"), "quick_gelu")
    assert "patch 16, image size 224" in line and "149,620,737 parameters" in line
    settings = Config.fromfile(repository / "configs/_base_/models/clip_vit_b16.py").model
    settings.pop("type")
    (tmp_path / "clip.pt").unlink()
    assert_same_features(reference, tmp_path / "out.safetensors", CLIP(**settings).eval())
    (tmp_path / "out.safetensors").unlink()  # pytest keeps what is left


# ---------------------------------------------------------------------- refusals


def test_reading_an_archive_runs_nothing_of_it(tmp_path):
    marker = tmp_path / "ran"
    pickled = (
        b"c__torch__.clip.model\nCLIP\n)\x81}(X\x06\x00\x00\x00visual"
        + f"cos\nsystem\n(S'touch {marker}'\ntRub.".encode()
    )
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", pickled)
        archive.writestr("evil/constants.pkl", b").")
    with pytest.raises(InputError, match=r"evil.pt is not a CLIP .* its tensors are none"):
        convert_file(str(tmp_path / "evil.pt"), str(tmp_path / "out.pth"), "quick_gelu")
    assert not marker.exists() and not (tmp_path / "out.pth").exists()


def test_damaged_archive_is_one_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / "half.pt", "w") as archive:
        archive.writestr("half/data.pkl", b"\x80\x02c__torch__.clip.model\nCLIP\n)")
        archive.writestr("half/constants.pkl", b").")
    with pytest.raises(
        InputError, match="half.pt cannot be read as a TorchScript archive"
    ) as error:
        convert_file(str(tmp_path / "half.pt"), str(tmp_path / "out.pth"))
    assert "\n" not in str(error.value)


def test_resnet_image_tower_is_refused():
    state = {"visual.layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1)}
    with pytest.raises(InputError, match="RN50.pt has a ResNet image tower"):
        convert_state(state, "RN50.pt")


def test_converted_weights_are_not_converted_again(reference):
    _, converted = convert_state(reference.state_dict(), "clip.pt")
    with pytest.raises(InputError, match="already has MMPreTrain's names"):
        convert_state(converted, "out.pth")


def test_unknown_layout_is_described_by_its_tensors():
    with pytest.raises(InputError, match="known layout .* its tensors are backbone.0.weight$"):
        convert_state({"backbone.0.weight": torch.zeros(2)}, "other.pth")
    with pytest.raises(InputError, match="not a state dict of floating-point tensors: optimizer"):
        convert_state({"optimizer": {}}, "other.pth")


def test_missing_left_over_and_misshapen_tensors_are_named(reference):
    state = reference.state_dict()
    del state["visual.transformer.resblocks.1.ln_2.bias"]
    with pytest.raises(InputError, match=r"it lacks visual\.layers\.1\.ln2\.bias$"):
        convert_state(state, "clip.pt")

    state = {**reference.state_dict(), "logit_bias": torch.zeros(())}
    with pytest.raises(InputError, match="it has, besides, logit_bias$"):
        convert_state(state, "clip.pt")

    state = {**reference.state_dict(), "visual.ln_post.bias": torch.zeros(3)}
    with pytest.raises(InputError, match=r"visual\.ln1\.bias \(3,\) instead of \(128,\)$"):
        convert_state(state, "clip.pt")

    state = reference.state_dict()
    del state["token_embedding.weight"]
    with pytest.raises(InputError, match="it has no token_embedding.weight$"):
        convert_state(state, "clip.pt")

    state = {**reference.state_dict(), "visual.positional_embedding": torch.zeros(13, WIDTH)}
    with pytest.raises(InputError, match="12 image positions .* not a square"):
        convert_state(state, "clip.pt")


def test_missing_layer_or_projection_of_hugging_face_is_named():
    state = hugging_face_model().state_dict()
    names = [name for name in state if "vision_model.encoder.layers.0" in name]
    with pytest.raises(InputError, match=r"lacks visual\.layers\.0.*, \.\.\."):
        convert_state({n: v for n, v in state.items() if n not in names}, "model")
    del state["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(InputError, match=r"has no text_model\.encoder\.layers\.1\.self_attn\.k_"):
        convert_state(state, "model")


@pytest.mark.parametrize("name", ["", "model.safetensors"], ids=["folder", "file beside a config"])
def test_hugging_face_weights_for_gelu_are_refused(tmp_path, name):
    hugging_face_model(hidden_act="gelu").save_pretrained(tmp_path)
    out = str(tmp_path / "out.pth")
    with pytest.raises(InputError, match="activation of .*config.json is gelu.*QuickGELU"):
        convert_file(str(tmp_path / name), out)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json: this is not a JSON file"):
        convert_file(str(tmp_path / name), out)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="does not name the activation.*--activation quick_gelu"):
        convert_file(str(tmp_path / name), out)
    with pytest.raises(InputError, match="is gelu"):
        convert_file(str(tmp_path / name), out, "gelu")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("quick", [False, True])
def test_a_folder_of_open_clip_says_its_activation(reference, tmp_path, quick):
    torch.save(reference.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    config = dict(model_cfg=dict(embed_dim=JOINT, **({"quick_gelu": True} if quick else {})))
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    out = tmp_path / "out.safetensors"
    if quick:
        convert_file(str(tmp_path), str(out))
        assert_same_features(reference, out)
    else:
        with pytest.raises(InputError, match="open_clip_config.json is gelu"):
            convert_file(str(tmp_path), str(out))


def test_other_numbers_of_heads_are_said(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    for vision, text, said in (
        (dict(head_width=16), {}, "visual.arch.num_heads="),
        ({}, dict(heads=7), "text_backbone.heads=7"),
        (dict(head_width=16), dict(heads=7), "visual.arch.num_heads=8, text_backbone.heads=7"),
        ({}, {}, ""),
    ):
        model = dict(quick_gelu=True, vision_cfg=vision, text_cfg=text)
        config = tmp_path / "open_clip_config.json"
        config.write_text(json.dumps(dict(model_cfg=model)))
        line = convert_file(str(tmp_path), str(tmp_path / "out.pth"))
        assert said in line and ("heads" in line) == bool(said)


@pytest.mark.parametrize("content", [dict(port=80), dict(model_type="bert", hidden_act="gelu")])
def test_a_config_of_something_else_says_nothing_of_the_activation(reference, tmp_path, content):
    torch.save(reference.state_dict(), tmp_path / "clip.pt")
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not name the activation"):
        convert_file(str(tmp_path / "clip.pt"), str(tmp_path / "out.pth"))


def test_weights_that_are_not_finite_are_refused(reference, tmp_path):
    state = {name: value.clone() for name, value in reference.state_dict().items()}
    state["ln_final.weight"].fill_(float("nan"))
    with pytest.raises(InputError, match="not finite in ln_final.weight"):
        convert_state(state, "nan.pt")


def test_source_that_is_missing_empty_or_split_is_one_sentence(tmp_path):
    out = str(tmp_path / "out.pth")
    with pytest.raises(InputError, match="file or folder not found: nowhere.pt"):
        convert_file("nowhere.pt", out)
    with pytest.raises(InputError, match="has none of model.safetensors, pytorch_model.bin"):
        convert_file(str(tmp_path), out)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match="split into several files"):
        convert_file(str(tmp_path), out)
    with pytest.raises(InputError, match="must end in .safetensors or .pth, got out.bin"):
        convert_file("nowhere.pt", "out.bin")


def test_tool_prints_one_line_or_one_error(reference, capsys, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "clip.pt")
    out = str(tmp_path / "out.safetensors")
    codes = [
        run("model_converters/clip2mmsdpt.py", source, out, "--activation", "quick_gelu")
        for source in (tmp_path / "clip.pt", "nowhere.pt")
    ]
    printed = capsys.readouterr()
    assert codes == [0, 2]
    assert printed.out.startswith(f"{out}: OpenAI's layout") and printed.out.count("\n") == 1
    assert printed.err == "error: file or folder not found: nowhere.pt\n"
