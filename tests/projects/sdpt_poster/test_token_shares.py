"""Shares of attention that tokens take, against a plain softmax."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from mmsdpt.utils.errors import InputError
from projects.sdpt_poster.token_shares import Shares, main
from tests.hosts.small_glip import TEXTS, build_mini_glip, make_images, make_samples


def test_without_tokens_nothing_and_with_strong_ones_nearly_all():
    model = build_mini_glip(tuner=dict(type="mmsdpt.SDPT", num_tokens=3)).eval()
    samples = make_samples(TEXTS[:1], (64, 96))

    def found() -> list[tuple[float, float]]:
        recorded = Shares(model)
        with torch.no_grad():
            model.predict(make_images(1, (64, 96), torch.float32), copy.deepcopy(samples))
        return recorded.means()

    some = found()
    assert len(some) == 2 and all(0 < side < 1 for layer in some for side in layer)
    model.set_slot_enabled("default", False)
    assert found() == [(0.0, 0.0)] * 2
    model.set_slot_enabled("default", True)
    with torch.no_grad():
        for tokens in model.tuners["default"].tokens.parameters():
            tokens.mul_(1e3)
    strong = found()
    assert all(max(layer) > 0.4 for layer in strong) and strong != some


def test_a_missing_folder_and_another_method_are_refused(tmp_path, monkeypatch, capsys):
    def run(folder) -> None:
        arguments = ["lora.safetensors", "--images", str(folder), "--others", "red star"]
        monkeypatch.setattr("sys.argv", ["token_shares", *arguments])
        main()

    with pytest.raises(SystemExit, match="2"):
        run(tmp_path / "nowhere")
    assert "nowhere is not a folder" in capsys.readouterr().err
    (tmp_path / "a.png").touch()
    lora = SimpleNamespace(model=SimpleNamespace(tuners=dict(default=torch.nn.Identity())))
    monkeypatch.setattr("mmsdpt.apis.Detector", lambda path: lora)
    with pytest.raises(InputError, match="lora.safetensors is a tuner file of Identity, expected"):
        run(tmp_path)
