"""Tuner files come back bit for bit, or are refused with one sentence and no change."""

import copy
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file as read_tensors
from safetensors.torch import save_file

from mmsdpt.tuners import files
from mmsdpt.tuners.files import TunerFileError, load_tuner, read_tuner_header, save_tuner
from mmsdpt.utils.atomic import remove_unfinished, write_atomically
from mmsdpt.utils.errors import DivergedError
from mmsdpt.utils.fingerprint import base_fingerprint
from tests.tuners.fusion_host import FusionHost, inputs

SDPT = dict(type="mmsdpt.SDPT", num_tokens=3)


def make_host(seed=0, tuner_seed=0, tuner=SDPT, **kwargs) -> FusionHost:
    """``seed`` draws the base weights, ``tuner_seed`` the tokens."""
    torch.manual_seed(seed)
    host = FusionHost(tuner=tuner, **kwargs)
    torch.manual_seed(100 + tuner_seed)
    for parameter in host.tuners.parameters():
        torch.nn.init.uniform_(parameter)
    return host.eval()


@pytest.fixture
def path(tmp_path) -> Path:
    return save_tuner(make_host(), tmp_path / "tuner.safetensors", extra=dict(classes=["cat"]))


def rewrite(path: Path, header=None, tensors=None, **changes) -> Path:
    """The file with another header, tensors, or entries of the header."""
    with safe_open(str(path), framework="pt") as file:
        own = {name: file.get_tensor(name) for name in file.keys()}
        old = json.loads(file.metadata()["mmsdpt"])
    if header is None:
        header = json.dumps({**old, **changes})
    target = path.with_name("changed.safetensors")
    save_file(tensors or own, target, metadata={"mmsdpt": header} if header else None)
    return target


def test_a_file_may_be_loaded_into_another_slot(path):
    stacked = make_host(tuner=None, tuners=dict(old=dict(SDPT, frozen=True), new=SDPT))
    load_tuner(stacked, path, "old")
    expected = make_host().tuners["default"].tokens.weight
    assert torch.equal(stacked.tuners["old"].tokens.weight, expected)
    assert not torch.equal(stacked.tuners["new"].tokens.weight, expected)


def test_the_header_says_what_the_tensors_belong_to(path):
    header = read_tuner_header(path)
    host = make_host()
    assert header["format"] == 1
    assert header["method"] == "SDPT" and header["host"] == "FusionHost"
    assert header["config"] == host.tuners["default"].config()
    assert header["slot"] == "default"
    assert header["shapes"] == {"tokens.weight": [3, 3, 16]}
    assert header["base"] == base_fingerprint(host)
    assert {"mmsdpt", "torch", "mmdet"} <= set(header["versions"])
    assert header["extra"] == {"classes": ["cat"]}


def damaged_files(path: Path):
    """Files that cannot be loaded into ``make_host()``, each with words of its refusal."""
    tokens = torch.rand(3, 3, 16)

    def written(name: str, content: bytes) -> Path:
        target = path.with_name(name)
        target.write_bytes(content)
        return target

    def too_large() -> Path:
        target = path.with_name("large.safetensors")
        with open(target, "wb") as file:
            file.truncate(files.MAX_FILE_BYTES + 1)  # a sparse file
        return target

    def with_token(value: float) -> Path:
        damaged = tokens.clone()
        damaged[1, 2, 3] = value
        return rewrite(path, tensors={"tokens.weight": damaged})

    def with_bytes(change) -> Path:
        """The file with other bytes in its last hundred, which are tensors."""
        damaged = bytearray(path.read_bytes())
        change(damaged)
        return written("bytes", bytes(damaged))

    def flip(data: bytearray) -> None:
        data[-50] ^= 1

    def zero(data: bytearray) -> None:
        data[-64:] = bytes(64)

    def checkpoint() -> Path:
        torch.save({"state_dict": {}}, path.with_name("run.pth"))
        return path.with_name("run.pth")

    other_config = dict(read_tuner_header(path)["config"], num_tokens=7)
    whole = path.read_bytes()
    return {
        "not found": (lambda: path.with_name("nothing.safetensors"), "tuner file not found"),
        "a folder": (lambda: path.parent, "is a folder: give the tuner file in it"),
        "empty": (lambda: written("empty", b""), "not a readable safetensors file"),
        "text": (lambda: written("text", b"hello" * 9), "not a readable safetensors file"),
        "HTML": (lambda: written("page", b"<!DOCTYPE html><html>"), "an HTML page"),
        "a checkpoint": (checkpoint, "a checkpoint of PyTorch"),
        "beyond float32": (
            lambda: rewrite(
                path, tensors={"tokens.weight": tokens.double() + 1e300}, checksum=None
            ),
            "not finite in: tokens.weight",
        ),
        "cut": (lambda: written("cut", whole[:-20]), "not a readable safetensors file"),
        "huge length": (
            lambda: written("huge", struct.pack("<Q", 2**60) + b"{}"),
            "not a readable safetensors file",
        ),
        "no header": (
            lambda: rewrite(path, header=""),
            "header, so it is no tuner file: base weights",
        ),
        "no JSON": (lambda: rewrite(path, header="{'format': 1"), "damaged header"),
        "a list": (lambda: rewrite(path, header="[1]"), "damaged header"),
        "nested": (lambda: rewrite(path, header="[" * 100_000), "damaged header"),
        "no format": (lambda: rewrite(path, header="{}"), "damaged header"),
        "infinite format": (
            lambda: rewrite(path, header='{"format": Infinity}'),
            "damaged header",
        ),
        "newer": (lambda: rewrite(path, format=2), "has format 2.*update mmsdpt"),
        "method": (lambda: rewrite(path, method="LoRA"), "holds method 'LoRA'.*'SDPT'"),
        "host": (lambda: rewrite(path, host="CLIP"), "holds host 'CLIP'.*'FusionHost'"),
        "settings": (
            lambda: rewrite(path, config=other_config),
            "other settings of SDPT: num_tokens: 7 in the file, 3 in the model$",
        ),
        "no settings": (lambda: rewrite(path, config=None), "other settings of SDPT"),
        "base": (lambda: rewrite(path, base="0" * 64), "other base weights.*load_from"),
        "no base": (lambda: rewrite(path, base=None), "other base weights"),
        "shapes": (
            lambda: rewrite(path, tensors={"tokens.weight": tokens[:, :2].clone()}),
            r"other names or shapes: tokens.weight: \(3, 2, 16\) in the file, \(3, 3, 16\)",
        ),
        "names": (
            lambda: rewrite(path, tensors={"weight": tokens}),
            "other names or shapes: tokens.weight: absent in the file",
        ),
        "one more": (
            lambda: rewrite(path, tensors={"tokens.weight": tokens, "b": tokens.clone()}),
            r"other names or shapes: b: \(3, 3, 16\) in the file, absent in the model",
        ),
        "integers": (
            lambda: rewrite(path, tensors={"tokens.weight": tokens.long()}),
            "other names or shapes.*int64",
        ),
        "header's shapes": (
            lambda: rewrite(path, shapes={"tokens.weight": [9]}),
            "contradicts its tensors",
        ),
        "NaN": (lambda: with_token(float("nan")), "not finite in: tokens.weight"),
        "infinite": (lambda: with_token(float("inf")), "not finite in: tokens.weight"),
        "a bit": (lambda: with_bytes(flip), "is damaged: its tensors are not those"),
        "zeros": (lambda: with_bytes(zero), "is damaged: its tensors are not those"),
        "8-bit floats": (
            lambda: rewrite(path, tensors={"tokens.weight": tokens.to(torch.float8_e4m3fn)}),
            "of type float8_e4m3fn",
        ),
        "large header": (lambda: rewrite(path, extra="x" * 5 * 10**6), "has a header of more than"),
        "control characters": (
            lambda: rewrite(path, method="\x1b[31m" + "x" * 10**6),
            r"holds method '\\x1b\[31mxx",
        ),
        "too large": (too_large, "a tuner file has at most"),
    }


CASES = [
    *("not found", "a folder", "empty", "text", "cut", "huge length", "too large"),
    *("no header", "no JSON", "a list", "nested", "no format", "infinite format", "newer"),
    *("method", "host", "settings", "no settings", "base", "no base"),
    *("shapes", "names", "one more", "integers", "header's shapes", "NaN", "infinite"),
    *("a bit", "zeros", "8-bit floats", "large header", "control characters"),
    *("HTML", "a checkpoint", "beyond float32"),
]


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_does_not_belong_is_refused_and_changes_nothing(path, case):
    make_file, words = damaged_files(path)[case]
    target, host = make_file(), make_host(tuner_seed=1)
    before = {name: value.clone() for name, value in host.state_dict().items()}
    with pytest.raises(TunerFileError, match=words) as caught:
        load_tuner(host, target)
    message = str(caught.value)
    assert message.isprintable() and str(target) in message and len(message) < 2000
    for name, value in host.state_dict().items():
        assert torch.equal(value, before[name])


def test_every_case_of_a_damaged_file_is_tested(path):
    assert sorted(damaged_files(path)) == sorted(CASES)


def test_other_base_weights_are_accepted_on_request(path):
    other = make_host(seed=5, tuner_seed=1)
    with pytest.raises(TunerFileError, match="other base weights"):
        load_tuner(other, path)
    load_tuner(other, path, check_base=False)
    expected = make_host().tuners["default"].tokens.weight
    assert torch.equal(other.tuners["default"].tokens.weight, expected)


def test_parts_of_the_host_that_trained_are_in_the_file(tmp_path):
    """They are loaded into a model whether they train there or not."""
    trained = make_host(trainable=[r"layers\.1\."])
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter.add_(0.25)
    path = save_tuner(trained, tmp_path / "tuner.safetensors")
    arguments = inputs(torch.float32)
    expected = trained(*arguments)
    for fresh in (make_host(tuner_seed=1), make_host(tuner_seed=1, trainable=[r"layers\.1\."])):
        load_tuner(fresh, path)
        for found, value in zip(fresh(*arguments), expected, strict=True):
            assert torch.equal(found, value)
    with pytest.raises(TunerFileError, match="other base weights"):
        load_tuner(make_host(seed=5), path)
    other = dict(read_tensors(path), **{"host:nothing": torch.zeros(1)})
    with pytest.raises(TunerFileError, match="host:nothing: .* in the file, absent in the model"):
        load_tuner(make_host(), rewrite(path, tensors=other))


def test_parts_of_the_host_from_a_file_are_switched_with_its_slot(tmp_path, monkeypatch):
    """So that other files load in any order, and the host stays as it is bit for bit."""
    said = []
    monkeypatch.setattr(files, "print_log", lambda text, *_, **__: said.append(text))
    plain = save_tuner(make_host(tuner_seed=2), tmp_path / "plain.safetensors")
    arguments, paths, outputs = inputs(torch.float32), [], []
    for number in (1, 2):
        trained = make_host(tuner_seed=number, trainable=[r"layers\.1\."])
        with torch.no_grad():
            trained.layers[1].attn.v_proj.weight.add_(number / 10)
        paths.append(save_tuner(trained, tmp_path / f"{number}.safetensors"))
        outputs.append(trained(*arguments))
    base = make_host(tuner=None)(*arguments)
    tuners = dict(a=dict(SDPT, frozen=True), b=dict(SDPT, frozen=True))

    def gives(host, expected) -> bool:
        return all(map(torch.equal, host(*arguments), expected))

    for order in ("ab", "ba"):
        host = make_host(tuner=None, tuners=tuners)
        for slot in order:
            load_tuner(host, dict(a=paths[0], b=plain)[slot], slot)
        host = copy.deepcopy(host)
        with host.tuners_off():
            assert gives(host, base)
        with host.tuners_off("b"):
            assert gives(host, outputs[0])
        with host.tuners_off("a"):
            assert gives(host, make_host(tuner_seed=2)(*arguments))
    assert all("different values" not in text for text in said)
    again = save_tuner(host, tmp_path / "again.safetensors", "a")
    before, after = map(read_tensors, (paths[0], again))
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    load_tuner(host, paths[1], "b")
    assert "have different values of layers.1." in said[-2]
    with host.tuners_off("a"):
        assert gives(host, outputs[1])
    load_tuner(host, plain, "a")
    with host.tuners_off("b"):
        assert gives(host, make_host(tuner_seed=2)(*arguments))


def test_a_tuner_that_is_not_finite_is_not_written(path):
    before, tower = path.read_bytes(), make_host()
    with torch.no_grad():
        tower.tuners["default"].tokens.weight[0, 0, 0] = float("nan")
    with pytest.raises(DivergedError, match="is not written: tokens.weight not finite"):
        save_tuner(tower, path)
    assert path.read_bytes() == before


def test_a_file_without_a_checksum_is_loaded(path):
    """Version 0.1 wrote none."""
    load_tuner(make_host(tuner_seed=1), rewrite(path, checksum=None))


def test_the_fingerprint_follows_the_base_weights_and_nothing_else():
    host = make_host()
    before = base_fingerprint(host)
    with torch.no_grad():
        host.tuners["default"].tokens.weight.add_(1)
    assert base_fingerprint(host) == before
    assert base_fingerprint(host.double()) == before
    assert base_fingerprint(make_host()) == before
    assert base_fingerprint(make_host(seed=1)) != before
    for name, _ in host.layers.named_parameters():
        host = make_host()
        with torch.no_grad():
            host.layers.get_parameter(name).mul_(1.0001)
        assert base_fingerprint(host) != before, name


def test_loading_a_tuner_executes_nothing(path, tmp_path):
    """A pickle under the name of a tuner file is refused unread."""
    proof = tmp_path / "executed"

    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(proof),))

    target = tmp_path / "evil.safetensors"
    target.write_bytes(pickle.dumps(dict(state_dict=Malicious())))
    with pytest.raises(TunerFileError, match="not a readable safetensors file"):
        load_tuner(make_host(), target)
    assert not proof.exists()


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_while_writing_leaves_the_old_file_and_no_other(path, monkeypatch, step):
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    if step == "write":
        real = os.fdopen

        def open_and_fail(*args, **kwargs):
            file = real(*args, **kwargs)
            file.close()
            raise OSError("no space left on device")

        monkeypatch.setattr(os, "fdopen", open_and_fail)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        save_tuner(make_host(tuner_seed=4), path)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def test_a_process_killed_while_writing_leaves_the_old_file_and_a_leftover_that_is_found(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    child = os.fork()
    if child == 0:
        os.replace = lambda *args: os._exit(9)
        write_atomically(path, b"new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "usual").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_slot_that_is_not_there_is_refused_by_name(path):
    with pytest.raises(KeyError, match="no tuner slot 'b'; the slots of this model are: default"):
        load_tuner(make_host(), path, "b")
