"""Promises of the alignment measure: it equals its formula, for shared texts and for texts of each
image, through the metric and through the tool.
"""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import Evaluator

from mmsdpt.evaluation import AlignmentMetric
from mmsdpt.tuners.files import save_tuner
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import make_class_folders
from tests.hosts.small_clip import NAMES, clip_config, make_images, make_samples, tuned_clip
from tests.run_tools import load_tool


def plain_alignment(x: torch.Tensor, labels: list[int], t: torch.Tensor) -> dict[str, float]:
    """The formulas, pair by pair: x (N, e), t (C, e) or (N, C, e)."""
    N, C = len(x), t.shape[-2]
    texts = t if t.dim() == 3 else t.expand(N, *t.shape)
    matched, unmatched = [], []
    for i in range(N):
        for c in range(C):
            (matched if c == labels[i] else unmatched).append(float(x[i] @ texts[i, c]))
    centroid = sum(x[i] for i in range(N)) / N
    others = sum(texts[i, c] for i in range(N) for c in range(C)) / (N * C)
    return dict(
        matched=sum(matched) / len(matched),
        unmatched=sum(unmatched) / len(unmatched),
        margin=sum(matched) / len(matched) - sum(unmatched) / len(unmatched),
        gap=float(((centroid - others) ** 2).sum().sqrt()),
    )


def measure(model, count: int = 7, batch: int = 3) -> dict[str, float]:
    """Through MMEngine's evaluator, in batches of which the last one is smaller."""
    evaluator = Evaluator([dict(type="mmsdpt.AlignmentMetric")])
    images, samples = make_images(count), make_samples(count)
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        evaluator.process(model(images[part], samples[part], mode="predict"))
    return evaluator.evaluate(count)


@pytest.mark.parametrize(
    "tuner", [dict(type="mmsdpt.CLIPVPT", num_tokens=2), dict(type="mmsdpt.CoCoOp")]
)
@torch.no_grad()
def test_the_metric_equals_the_plain_formulas(tuner):
    model = tuned_clip(tuner, predict_features=True).double()
    found = measure(model)
    images = model.encode_image(make_images(7))
    texts = [model(make_images(1, first=i), mode="predict")[0].text_features for i in range(7)]
    stacked = torch.stack(texts)
    assert (tuner["type"] == "mmsdpt.CoCoOp") == bool((stacked[0] != stacked[1]).any())
    expected = plain_alignment(images, [i % len(NAMES) for i in range(7)], stacked)
    assert set(found) == {f"alignment/{name}" for name in expected}
    for name, value in expected.items():
        assert found[f"alignment/{name}"] == pytest.approx(value, abs=1e-9)


def test_features_that_agree_have_margin_one_and_no_gap():
    metric = AlignmentMetric()
    texts = torch.eye(4)
    samples = [
        dict(image_feature=texts[i], text_features=texts, gt_label=torch.tensor([i]))
        for i in range(4)
    ]
    metric.process({}, samples)
    found = metric.evaluate(4)
    assert found["alignment/margin"] == 1
    assert found["alignment/gap"] == 0


def test_half_precision_is_measured_in_float32():
    x = F.normalize(torch.randn(5, 8), dim=-1).bfloat16()
    t = F.normalize(torch.randn(3, 8), dim=-1).bfloat16()
    metric = AlignmentMetric()
    labels = [0, 1, 2, 0, 1]
    metric.process(
        {},
        [
            dict(image_feature=x[i], text_features=t, gt_label=torch.tensor([labels[i]]))
            for i in range(5)
        ],
    )
    found = metric.evaluate(5)
    expected = plain_alignment(x.float(), labels, t.float())
    assert found["alignment/gap"] == pytest.approx(expected["gap"], abs=1e-6)
    assert found["alignment/margin"] == pytest.approx(expected["margin"], abs=1e-6)


def test_predictions_carry_features_only_where_asked():
    images = make_images(2, dtype=torch.float32)
    tuner = dict(type="mmsdpt.CLIPVPT", num_tokens=1)
    plain = tuned_clip(tuner)(images, mode="predict")
    assert "image_feature" not in plain[0] and "text_features" not in plain[0]
    with pytest.raises(InputError, match="predict_features=True"):
        AlignmentMetric().process({}, [sample.to_dict() for sample in plain])
    asked = tuned_clip(tuner, predict_features=True)(images, mode="predict")
    assert torch.equal(asked[0].pred_score, plain[0].pred_score)
    assert asked[0].text_features is asked[1].text_features  # no copy for each image


def test_one_class_is_refused():
    model = tuned_clip(
        dict(type="mmsdpt.CLIPVPT", num_tokens=1), predict_features=True, classes=("owl",)
    )
    samples = model(make_images(1, dtype=torch.float32), make_samples(1, 1), mode="predict")
    with pytest.raises(InputError, match="only one class"):
        AlignmentMetric().process({}, [sample.to_dict() for sample in samples])


@pytest.mark.parametrize("tuner", ["CLIPCoOp", "CoCoOp", "CLIPLinearProbe"])
@torch.no_grad()
def test_predictions_from_known_features_equal_those_from_images(tuner):
    settings = dict(num_classes=len(NAMES)) if tuner == "CLIPLinearProbe" else dict(num_tokens=4)
    model = tuned_clip(dict(type=f"mmsdpt.{tuner}", **settings), predict_features=True)
    images = make_images(3, dtype=torch.float32)
    from mmsdpt.hosts.seams import ForwardState

    state = ForwardState(images=images)
    model.encode_image(images, state)
    expected = model(images, make_samples(3), mode="predict")
    found = model.predict_from_features(state.pooled_image, make_samples(3))
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.pred_score, b.pred_score)
        assert torch.equal(a.image_feature, b.image_feature)
        assert torch.equal(a.text_features, b.text_features)


@pytest.fixture
def tool():
    return load_tool("analysis_tools/alignment.py")


def test_the_tool_measures_drawn_pictures(tool, repository, capsys):
    config = repository / "configs" / "mini" / "zero_shot_mini_clip.py"
    tool.main([str(config), "--cfg-options", "test_dataloader.dataset.num_samples=48"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    accuracy, matched, unmatched = [float(each) for each in re.findall(r"[\d.]+", line)[:3]]
    assert accuracy > 30 and matched > unmatched + 0.2


def test_the_tool_prints_the_measure_without_and_with_a_tuner(tool, repository, tmp_path, capsys):
    make_class_folders(tmp_path / "data" / "clothing", dict(train=1, test=2), NAMES)
    tuner = dict(type="mmsdpt.CLIPVPT", num_tokens=2)
    model = tuned_clip(tuner)
    weights = tmp_path / "weights.pth"
    base = {k: v for k, v in model.state_dict().items() if not k.startswith("tuners.")}
    torch.save(base, weights)
    save_tuner(model, tmp_path / "tuner.safetensors")
    cfg = Config.fromfile(repository / "configs" / "_base_" / "datasets" / "clip_clothing.py")
    cfg.merge_from_dict(dict(load_from=str(weights), default_scope="mmpretrain"))
    cfg.model = clip_config(tuner=tuner)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.update(data_root=str(tmp_path / "data" / "clothing"), image_size=32)
    cfg.dump(tmp_path / "config.py")
    tool.main([str(tmp_path / "config.py"), str(tmp_path / "tuner.safetensors")])
    lines = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert len(lines) == 2
    assert "without tuners" in lines[0] and "tuner.safetensors" in lines[1]
    assert lines[0].split()[-2] != lines[1].split()[-2]  # the gap
    cfg.model.tuner = None
    cfg.model.tuners = dict(default=tuner, random=dict(tuner, num_tokens=3))
    cfg.dump(tmp_path / "config.py")
    arguments = [str(tmp_path / "config.py"), str(tmp_path / "tuner.safetensors")]
    with pytest.raises(InputError, match="slots of .* are default, random; name one"):
        tool.main([*arguments, "--slot", "other"])
    tool.main(arguments)
    assert [line for line in capsys.readouterr().out.splitlines() if "%" in line] == lines
