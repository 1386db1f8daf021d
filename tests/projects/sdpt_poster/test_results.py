"""The results in the repository belong to studies, and tables can be made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsdpt.experiments.loading import load_study
from mmsdpt.experiments.page import write_tables
from projects.mini_world import TASKS, seen_combinations

ROOT = Path(__file__).parents[3]
RESULTS = sorted(ROOT.glob("projects/*/results/*.jsonl"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_are_cells_of_their_study(path, repository, tmp_path):
    study = load_study(path.parents[1] / "studies" / f"{path.stem}.py")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    cells = [record["cell"] for record in records]
    assert len(set(cells)) == len(cells) and set(cells) <= {cell.name for cell in study.cells()}
    assert all(record["status"] == "finished" for record in records)
    shutil.copy(path, tmp_path)
    (page,) = write_tables(study, tmp_path, ["md"])
    assert study.title in page.read_text()


def test_the_words_of_the_studies_are_those_of_the_drawn_world():
    """Configs write them out, so that reading one does not import PyTorch and MMDetection."""
    folder = ROOT / "projects/sdpt_poster/studies"
    known = Config.fromfile(folder / "parts/tasks.py").known_phrases
    assert known == [concept.phrase for concept in seen_combinations()]
    first = Config.fromfile(folder / "compatibility_mini.py").first_names
    assert set(first) == set(TASKS["thermal"].names) and len(first) == len(set(first))


def test_the_chosen_rates_are_the_best_on_the_validation_images():
    folder = ROOT / "projects/sdpt_poster"
    scores: dict[tuple[str, str], dict[float, float]] = {}
    for line in (folder / "results/rates_mini.jsonl").read_text().splitlines():
        record = json.loads(line)
        if rate := record["settings"].get("optim_wrapper.optimizer.lr"):
            rates = scores.setdefault((record["trained_on"], record["method"]), {})
            rates[float(rate.removeprefix("*"))] = record["metrics"]["coco/bbox_mAP"]
    chosen = Config.fromfile(folder / "studies/chosen_rates_mini.py").chosen
    assert {task for task, _ in scores} == set(chosen)
    for (task, method), rates in scores.items():
        assert rates[chosen[task].get(method, 1)] == max(rates.values()), (task, method)
