"""The tuner files of all studies in a folder are published, each in its own table."""

import json
import sys

from projects.model_zoo import publish


def record(host: str, method: str, metrics: dict[str, float]) -> dict:
    return dict(
        cell=f"{host}/{method}",
        host=host,
        method=method,
        tested_on="thermal",
        status="finished",
        tuner_file=f"{host}.safetensors",
        trainable=10,
        before=metrics,
        metrics=metrics,
    )


def test_both_studies_in_one_folder_are_published(tmp_path, monkeypatch):
    work_dir, zoo = tmp_path / "work", tmp_path / "zoo"
    work_dir.mkdir()
    zoo.mkdir()
    found = {
        "model_zoo": record("mini_glip", "sdpt", {"coco/bbox_mAP": 0.5, "coco/bbox_mAP_50": 0.7}),
        "model_zoo_clip": record("mini_clip", "mudpt", {"accuracy": 80.0}),
    }
    for name, each in found.items():
        (work_dir / f"{name}.jsonl").write_text(json.dumps(each) + "\n")
        (work_dir / each["tuner_file"]).write_text(name)
    page = tmp_path / "page.md"
    tables = (
        f"<!-- table of {host}: {word} -->" for host in publish.SCORES for word in ("begin", "end")
    )
    page.write_text("\n".join(tables) + "\n")
    monkeypatch.setattr(publish, "ZOO", zoo)
    monkeypatch.setattr(publish, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["publish", str(work_dir)])
    publish.main()
    assert {path.name: path.read_text() for path in zoo.iterdir()} == {
        "sdpt_mini_glip_thermal.safetensors": "model_zoo",
        "mudpt_mini_clip_thermal.safetensors": "model_zoo_clip",
    }
    assert "50.0 / 70.0" in page.read_text() and "| 80.0 |" in page.read_text()
