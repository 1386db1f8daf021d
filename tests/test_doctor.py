"""Promises of mmsdpt.doctor: it tells what is there, even where mmsdpt itself cannot be
imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmsdpt import compat, doctor
from mmsdpt.utils.downloads import (
    CLIP_CHECKPOINTS,
    GLIP_CHECKPOINTS,
    GROUNDING_DINO_CHECKPOINTS,
    how_to_get,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """An empty directory to work in and an empty cache of Hugging Face."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *given: None)
    return tmp_path


def by_name(findings: list[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {f.name: f for f in findings}


def test_a_working_installation_has_every_package_and_operator_tried(capsys):
    assert doctor.main([]) == 0
    shown = capsys.readouterr().out
    for requirement in compat.REQUIREMENTS:
        assert f"{requirement.module} " in shown
    assert "mmsdpt, by sampling (tried)" in shown
    expected = "MMCV, compiled (tried)" if compat.has_compiled_ops() else "torchvision (tried)"
    assert expected in shown
    assert "mmsdpt can be used." in shown


def test_a_wrong_version_is_a_problem_and_nothing_is_tried_with_it(monkeypatch, capsys):
    real = compat.installed_version
    monkeypatch.setattr(
        compat, "installed_version", lambda r: "0.13" if r.module == "tokenizers" else real(r)
    )
    monkeypatch.setattr(doctor, "find_operators", lambda: pytest.fail("operators were tried"))
    assert doctor.main([]) == 1
    shown = capsys.readouterr().out
    assert 'pip install "tokenizers' in shown and "PROBLEM" in shown and "cannot be used" in shown


def test_an_operator_that_fails_is_a_problem_and_not_a_crash(monkeypatch):
    def broken() -> str:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "_devices", broken)
    finding = by_name(doctor.find_operators())["devices"]
    assert finding.state == "PROBLEM" and "libcudart.so.13" in finding.problem
    assert not doctor.usable([finding])


def test_a_wrong_result_of_nms_is_a_problem(monkeypatch):
    import mmcv.ops
    import torch

    monkeypatch.setattr(mmcv.ops, "nms", lambda *given: (None, torch.tensor([0, 1, 2])))
    assert by_name(doctor.find_operators())["non-maximum suppression"].state == "PROBLEM"


def test_missing_weights_are_told_with_place_and_remedy_and_do_not_make_it_unusable(no_cache):
    findings = by_name(doctor.find_weights())
    known = {**GLIP_CHECKPOINTS, **GROUNDING_DINO_CHECKPOINTS, **CLIP_CHECKPOINTS}
    for name, file in known.items():
        problem = findings[name].problem
        assert (
            str(no_cache / "checkpoints" / file) in problem
            and how_to_get(f"checkpoints/{file}") in problem
        )
    assert str(no_cache / "checkpoints" / "bert-base-uncased") in findings["BERT"].problem
    assert findings["BERT"].state == "missing"
    assert doctor.usable(list(findings.values()))


def test_weights_in_the_local_folders_are_found(no_cache):
    bert = no_cache / "checkpoints" / "bert-base-uncased"
    bert.mkdir(parents=True)
    (bert / "config.json").write_text("{}")
    assert "no vocab.txt" in by_name(doctor.find_weights())["BERT"].problem
    (bert / "vocab.txt").write_text("[PAD]")
    (no_cache / "checkpoints" / GLIP_CHECKPOINTS["GLIP-L"]).write_bytes(bytes(20_000))
    findings = by_name(doctor.find_weights())
    assert findings["BERT"].problem is None and "without its own weights" in findings["BERT"].value
    assert findings["GLIP-L"].problem is None and findings["GLIP-L"].value.endswith("0.02 MB")
    (bert / "model.safetensors").touch()
    assert "with its own weights" in by_name(doctor.find_weights())["BERT"].value


def test_json_says_the_same_and_nothing_else_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "find_operators", lambda: print("noise of other packages") or [])
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["usable"] is True
    torch_entry = next(f for f in report["findings"] if f["name"] == "torch")
    assert torch_entry["state"] == "ok" and torch_entry["section"] == "packages"


def test_it_reports_from_the_command_line_where_importing_mmsdpt_stops(tmp_path):
    """A sitecustomize takes lvis away: the import stops with one sentence, and the doctor tells
    it.
    """
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "told = m.version\n"
        "def version(name):\n"
        "    if name == 'lvis':\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return told(name)\n"
        "m.version = version\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "HOME": str(tmp_path)}

    def run(*command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    stopped = run("-c", "import mmsdpt")
    assert stopped.returncode == 1 and "lvis is not installed" in stopped.stderr
    for command in (
        ("-m", "mmsdpt.doctor", "--json"),
        (str(ROOT / "tools" / "doctor.py"), "--json"),
    ):
        done = run(*command)
        assert done.returncode == 1, done.stderr
        report = json.loads(done.stdout)
        (problem,) = [f["problem"] for f in report["findings"] if f["required"] and f["problem"]]
        assert "lvis is not installed" in problem
