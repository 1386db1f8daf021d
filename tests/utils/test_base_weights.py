"""Base weights fit or are refused with one sentence; nothing in a checkpoint is executed."""

import os
import random
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseModule
from safetensors.torch import save_file
from torch import nn

from mmsdpt.engine import CheckpointError
from mmsdpt.hosts.base import TunableMixin
from mmsdpt.utils.base_weights import (
    load_base_file,
    load_base_weights,
    read_checkpoint,
    resolve_checkpoint,
)
from mmsdpt.utils.clip_weights import convert_file
from mmsdpt.utils.detector_weights import convert_detector
from mmsdpt.utils.downloads import CLIP_CHECKPOINTS, GLIP_CHECKPOINTS


class Host(nn.Module):
    """A base model of two tensors, with a tuner."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 1, bias=False)
        self.tuners = nn.ModuleDict(dict(default=nn.Linear(1, 1)))


def openmmlab_checkpoint() -> dict:
    """What MMEngine's runner writes: logs as HistoryBuffers, NumPy numbers, random states."""
    hub = MessageHub.get_instance("a_run_of_the_toolbox")
    hub.update_scalar("train/loss", np.float32(1.5).item())
    hub.update_info("best_score", np.float64(0.4))
    hub.update_info("iter", np.int64(7))
    hub.log_scalars["train/lr"] = HistoryBuffer([0.1, 0.2], [1, 1])
    return dict(
        meta=dict(cfg="model = dict()", epoch=12, iter=7, time="20230101_000000"),
        state_dict=Host().state_dict(),
        message_hub=hub.state_dict(),
        optimizer=torch.optim.SGD(Host().parameters(), 0.1, momentum=0.9).state_dict(),
        param_schedulers=[dict(last_step=3, _last_value=np.float64(0.1))],
        numbers=[np.float32(1), np.int64(2), np.arange(3), np.arange(3.0), np.arange(3) > 1],
    )


def test_a_checkpoint_of_the_toolbox_is_read(tmp_path):
    checkpoint = openmmlab_checkpoint()
    torch.save(checkpoint, tmp_path / "toolbox.pth")
    found = read_checkpoint(str(tmp_path / "toolbox.pth"))
    assert found["meta"] == checkpoint["meta"]
    for name, value in checkpoint["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)


def test_a_plain_state_dict_and_safetensors_are_read(tmp_path):
    state = Host().state_dict()
    torch.save(state, tmp_path / "plain.pth")
    save_file(state, tmp_path / "plain.safetensors")
    for name in ("plain.pth", "plain.safetensors"):
        found = read_checkpoint(str(tmp_path / name))["state_dict"]
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_checkpoint_of_an_older_numpy_is_read(tmp_path):
    """NumPy 1 wrote ``numpy.core``, NumPy 2 writes ``numpy._core``."""
    path = tmp_path / "numbers.pth"
    torch.save(dict(state_dict={}, array=np.arange(3), number=np.float64(0.5)), path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    for old, new in ((b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")):
        with zipfile.ZipFile(path, "w") as file:
            for name, part in parts.items():
                file.writestr(name, part.replace(old, new))
        found = read_checkpoint(str(path))
        assert found["array"].tolist() == [0, 1, 2] and found["number"] == 0.5


def test_getattr_in_a_checkpoint_gives_nothing(tmp_path):
    """The logs of the toolbox name it; what it would give is not handed out."""

    class Reaching:
        def __reduce__(self):
            return (getattr, (torch.Tensor, "tolist"))

        def __call__(self):
            """pickle wants to see that what ``Calling`` calls can be called."""

    class Calling:
        def __reduce__(self):
            return (Reaching(), (torch.zeros(1),))

    torch.save(dict(state_dict={}, found=Reaching()), tmp_path / "reaching.pth")
    assert read_checkpoint(str(tmp_path / "reaching.pth"))["found"] is None
    torch.save(dict(state_dict={}, found=Calling()), tmp_path / "evil.pth")
    with pytest.raises(CheckpointError):
        read_checkpoint(str(tmp_path / "evil.pth"))


def test_reading_leaves_the_toolboxs_own_logs_alone(tmp_path):
    torch.save(openmmlab_checkpoint(), tmp_path / "toolbox.pth")
    read_checkpoint(str(tmp_path / "toolbox.pth"))
    assert HistoryBuffer([1.0, 3.0], [1, 1]).statistics("mean") == 2.0


def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path):
    proof = tmp_path / "executed"

    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(proof),))

    path = tmp_path / "evil.pth"
    torch.save(dict(state_dict=Host().state_dict(), meta=Malicious()), path)
    with pytest.raises(CheckpointError, match=r"Python objects besides tensors.*\(posix.mkdir\)"):
        read_checkpoint(str(path))
    assert not proof.exists()


def test_a_damaged_file_is_refused_with_one_sentence(tmp_path):
    good = tmp_path / "good.pth"
    torch.save(openmmlab_checkpoint(), good)
    whole = good.read_bytes()
    rng = random.Random(0)
    contents = [b"", b"hello", whole[:100], whole[: len(whole) // 2], whole[:-30]]
    contents += [bytes(rng.randrange(256) for _ in range(64)) for _ in range(30)]
    contents += [b"\x80\x02" + bytes(rng.randrange(256) for _ in range(64)) for _ in range(30)]
    for i, content in enumerate(contents):
        for suffix in ("pth", "safetensors"):
            path = tmp_path / f"damaged_{i}.{suffix}"
            path.write_bytes(content)
            with pytest.raises(CheckpointError) as caught:
                read_checkpoint(str(path))
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("convert", [convert_file, convert_detector])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(1)], "a list, expected a dict of tensors"),
        (dict(state_dict=None), "a NoneType, expected a dict of tensors"),
        (dict(state_dict=torch.zeros(1)), "a Tensor, expected a dict of tensors"),
        ({0: torch.zeros(1)}, "a dict with the keys 0, expected tensors by name"),
        (dict(state_dict={0: torch.zeros(1)}), "a dict with the keys 0, expected tensors by name"),
    ],
    ids=["list", "None", "tensor", "number", "number below"],
)
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path, convert, content, words):
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    for read in (read_checkpoint, lambda path: convert(path, str(tmp_path / "out.safetensors"))):
        with pytest.raises(CheckpointError, match=f"odd.pth holds {words}$"):
            read(str(path))


def test_weights_that_fit_are_loaded_and_the_tuner_is_left_alone():
    host, other = Host(), Host()
    tuner = host.tuners.default.weight.clone()
    state = {f"module.{name}": value for name, value in other.state_dict().items()}
    load_base_weights(host, state, "file")
    assert torch.equal(host.a.weight, other.a.weight) and torch.equal(host.b.weight, other.b.weight)
    assert torch.equal(host.tuners.default.weight, tuner)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("PyTorch", "base.pth"),
        ("PyTorch", "base.safetensors"),
        ("old PyTorch", "base.pth"),
        ("safetensors", "base.safetensors"),
    ],
)
def test_a_loaded_model_no_longer_needs_its_file(tmp_path, kind, name):
    """Values of the file are copied, even those that were only mapped to memory."""
    wanted, path = Host().state_dict(), tmp_path / name
    if kind == "safetensors":
        save_file(wanted, path)
    else:
        is_zip = kind == "PyTorch"
        torch.save(dict(state_dict=wanted), path, _use_new_zipfile_serialization=is_zip)
    host = Host()
    load_base_file(host, str(path))
    path.write_bytes(b"")
    for part in ("a.weight", "a.bias", "b.weight"):
        assert torch.equal(host.state_dict()[part], wanted[part])


def test_weights_that_do_not_fit_are_refused_by_name_and_load_nothing():
    host, state = Host(), Host().state_dict()
    before = {name: value.clone() for name, value in host.state_dict().items()}
    del state["a.bias"]
    state["b.weight"] = torch.zeros(1, 4)
    with pytest.raises(CheckpointError) as caught:
        load_base_weights(host, state, "file.pth")
    assert str(caught.value) == (
        "file.pth does not fit Host: 1 tensors missing: a.bias;"
        " 1 tensors of another shape: b.weight (1, 4) instead of (1, 3)"
    )
    for name, value in host.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_checkpoint_of_a_run_is_called_so_with_what_to_do():
    state = {"tuners.default.tokens": torch.ones(1)}
    message = r"checkpoint of a run.*--resume e.pth.*--cfg-options tuner_files.default=e.pth"
    with pytest.raises(CheckpointError, match=message):
        load_base_weights(Host(), state, "e.pth")


@pytest.mark.parametrize("name", ["visual.conv1.weight", "vision_model.embeddings.class_embedding"])
def test_clip_weights_of_others_are_refused_with_the_command(name):
    with pytest.raises(CheckpointError, match=r"convert it first, \S+/clip2mmsdpt.py clip.bin"):
        load_base_weights(Host(), {f"module.{name}": torch.ones(1)}, "clip.bin")


def test_a_torchscript_archive_as_base_weights_is_refused_with_the_command(tmp_path):
    """As OpenAI's files are; the code in it is compressed, as nothing is in a state dict."""
    file = tmp_path / "ViT-B-16.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"ViT-B-16/{name}", b"x" * 100)
    with pytest.raises(CheckpointError, match=r"TorchScript archive.*clip2mmsdpt.py"):
        read_checkpoint(str(file))


def test_many_tensors_that_do_not_fit_are_not_all_listed():
    host = nn.ModuleList(nn.Linear(1, 1) for _ in range(50))
    with pytest.raises(CheckpointError, match=r"100 tensors missing: 0.weight, .*, \.\.\.$"):
        load_base_weights(host, {}, "file.pth")


@pytest.mark.parametrize("name", [*GLIP_CHECKPOINTS.values(), *CLIP_CHECKPOINTS.values()])
def test_missing_public_weights_come_with_what_to_do(name):
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint(f"checkpoints/{name}")
    message = str(caught.value)
    assert f"checkpoint not found: checkpoints/{name}" in message
    address = f"mmdetection/v3.0/glip/{name}" if name.startswith("glip") else "clip/models/"
    assert "download https://" in message and address in message and "load_from=PATH" in message
    assert ("clip2mmsdpt.py" in message) is name.startswith("clip")


def test_other_names_of_weights(tmp_path):
    with pytest.raises(CheckpointError, match="not found: own.pth; set another file"):
        resolve_checkpoint("own.pth")
    with pytest.raises(
        CheckpointError, match="not one of the package's weights: mini_clip, mini_glip"
    ):
        resolve_checkpoint("mmsdpt://nothing")
    path = tmp_path / "own.pth"
    path.touch()
    assert resolve_checkpoint(str(path)) == str(path)
    assert resolve_checkpoint("https://host/file.pth") == "https://host/file.pth"


class Malicious:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def test_pretrained_weights_of_an_init_cfg_execute_nothing(tmp_path):
    """MMEngine's loader unpickles what torch refuses."""

    class Part(BaseModule):
        def __init__(self, path):
            super().__init__(init_cfg=dict(type="Pretrained", checkpoint=path))
            self.layer = nn.Linear(2, 2)

    class Whole(TunableMixin, BaseModule):
        def __init__(self, path):
            super().__init__()
            self.part = Part(path)

    evil, good, proof = tmp_path / "evil.pth", tmp_path / "good.pth", tmp_path / "executed"
    torch.save(dict(state_dict=dict(x=Malicious(proof))), evil)
    with pytest.raises(CheckpointError, match="evil.pth holds Python objects"):
        Whole(str(evil)).init_weights()
    assert not proof.exists()
    with pytest.raises(CheckpointError, match="torchvision://resnet50 would be read by MMEngine"):
        Whole("torchvision://resnet50").init_weights()

    weight = torch.rand(2, 2)
    torch.save({"layer.weight": weight, "layer.bias": torch.zeros(2)}, good)
    model = Whole(str(good))
    model.init_weights()
    assert torch.equal(model.part.layer.weight, weight)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is an HTML page"),
        (b"\n<html>404</html>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n", "Git LFS"),
        (b"", "is empty"),
        (b'{"weight_map": {}}', "is JSON: name the file of the weights"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, content, words, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(str(path))


def test_the_content_counts_not_the_name(tmp_path):
    state = Host().state_dict()
    save_file(state, tmp_path / "model.pt")
    torch.save(state, tmp_path / "model.safetensors")
    for name in ("model.pt", "model.safetensors"):
        found = read_checkpoint(str(tmp_path / name))["state_dict"]
        assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("kind", ["float8", "sparse", "expanded", "compressed"])
def test_odd_tensors_are_refused(tmp_path, kind):
    value = {
        "float8": lambda: torch.zeros(3, 2).to(torch.float8_e4m3fn),
        "sparse": lambda: torch.eye(3).to_sparse(),
        "expanded": lambda: torch.zeros(1).expand(10**12),
        "compressed": lambda: torch.zeros(10**6),
    }[kind]()
    path = tmp_path / "odd.pth"
    torch.save({"state_dict": {"a.weight": value}}, path)
    if kind == "compressed":
        with zipfile.ZipFile(path) as source:
            files = {name: source.read(name) for name in source.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name, data in files.items():
                target.writestr(name, data)
    with pytest.raises(
        CheckpointError,
        match="odd.pth (cannot be used: the tensor [a-z_.]+ is .*: save|is a compressed)",
    ):
        read_checkpoint(str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_base_weights_that_are_not_finite_are_refused(value):
    host = Host()
    state = {name: tensor.clone() for name, tensor in host.state_dict().items()}
    state["b.weight"][0, 1] = value
    with pytest.raises(CheckpointError, match="not finite in b.weight"):
        load_base_weights(host, state, "base.pth")


def test_what_is_no_tensor_is_refused():
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_base_weights(Host(), {"a.weight": "x"}, "base.pth")
