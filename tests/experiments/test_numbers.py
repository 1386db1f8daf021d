"""Promise of the engine: the numbers are those of the tools that were there before it.

They were computed by version 0.1's ``tools/clip_protocol.py``, ``compare_methods.py`` and
``compatibility.py`` (one thread on a CPU; 2 epochs); ``per_sample=False`` brings their random
numbers back. On that machine all of 123 cells on mini CLIP were equal to the last bit, and so were
the tensors of all tuners on mini GLIP. Another machine may round differently.
"""

from __future__ import annotations

import pytest

from mmsdpt.experiments.loading import load_study
from mmsdpt.experiments.running import run

pytestmark = pytest.mark.slow
OPTIONS = {"study.epochs": 2, "cell.randomness.per_sample": False}

# MuDPT's texts have changed since, so it is left out.
# Images of clothing that are classified correctly (of 372), margin and gap of the alignment, and
# trained parameters, with one image of each class.
CLOTHING = dict(
    zero_shot=(169, 0.204587, 0.660308, 0),
    zero_shot_ensemble=(157, 0.199698, 0.686860, 0),
    linear_probe=(88, 0.204587, 0.660308, 1290),
    coop=(126, 0.095213, 0.762193, 2048),
    cocoop=(163, 0.206510, 0.659112, 2696),
    vpt=(168, 0.206760, 0.659292, 9216),
    maple=(180, 0.250065, 0.652612, 150144),
)
# AP of mini GLIP by end of a cell's name.
STACKS = {
    "zero_shot/on_thermal": 0.444,
    "zero_shot/on_new_names": 0.049,
    "adapter/thermal/seed_0/on_thermal": 0.454,
    "adapter/thermal/seed_0/on_new_names": 0.147,
    "then_sdpt/new_names/seed_0/on_thermal_new_alone": 0.392,
    "then_sdpt/new_names/seed_0/on_thermal": 0.401,
    "then_sdpt/new_names/seed_0/on_new_names_new_alone": 0.096,
    "then_sdpt/new_names/seed_0/on_new_names": 0.134,
}


@pytest.mark.real_data
def test_few_shot_gives_the_numbers_of_version_0_1(repository, real_data, tmp_path):
    chosen = {
        "study.methods": list(CLOTHING),
        "study.shots": [1],
        "study.seeds": [1],
        "study.data_root": str(real_data),
    }
    path = repository / "projects/mudpt_paper/studies/few_shot_mini.py"
    records, _ = run(load_study(path, OPTIONS | chosen), tmp_path, threads=1)
    for record in records.values():
        correct, margin, gap, trainable = CLOTHING[record["method"]]
        metrics = record["metrics"]
        assert metrics["total"] == 372
        assert metrics["correct"] == pytest.approx(correct, abs=2), record["method"]
        assert metrics["margin"] == pytest.approx(margin, abs=2e-3), record["method"]
        assert metrics["gap"] == pytest.approx(gap, abs=2e-3), record["method"]
        assert record["trainable"] == trainable
    assert len(records) == len(CLOTHING)


def test_stacking_gives_the_numbers_of_version_0_1(repository, tmp_path):
    path = repository / "projects/sdpt_poster/studies/compatibility_mini.py"
    chosen = {
        "study.pairs": [("adapter", "sdpt")],
        "study.shots": [None],
        "study.seeds": [0],
        "cell.feature_cache": None,  # which version 0.1 did not have, and which needs per_sample
    }
    study = load_study(path, OPTIONS | chosen)
    records, _ = run(study, tmp_path, threads=1)
    for name, ap in STACKS.items():
        (record,) = [r for cell, r in records.items() if cell.endswith(name)]
        assert record["metrics"]["coco/bbox_mAP"] == pytest.approx(ap, abs=0.02), name
    assert len(records) == len(STACKS)
