"""Promises of curves, and of the logs that TensorBoard reads."""

from __future__ import annotations

import json

import pytest
from mmengine.registry import VISUALIZERS
from PIL import Image

from mmsdpt.utils.errors import InputError
from mmsdpt.visualization import curves
from mmsdpt.visualization.curves import draw_curves, read_scalars


def write_session(folder, name: str, entries: list[dict], rest: str = "") -> None:
    path = folder / name / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + rest)


def entries(first: int, last: int, loss: float) -> list[dict]:
    """Epochs of ten steps, logged every five, each with a validation."""
    found = []
    for epoch in range(first, last + 1):
        for step in (10 * epoch - 5, 10 * epoch):
            found.append(dict(loss=loss, lr=0.1, epoch=epoch, step=step))
        found.append({"coco/bbox_mAP": loss / 10, "step": epoch})
    return found


def test_a_resumed_session_takes_the_place_of_what_it_ran_again(tmp_path):
    write_session(tmp_path, "20260101", entries(1, 3, 2.0), rest='{"loss": 2.')
    write_session(tmp_path, "20260102", entries(3, 4, 1.0))
    training, validation = read_scalars(tmp_path)
    assert training["x"].tolist() == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
    assert training["loss"].tolist() == [2.0] * 4 + [1.0] * 4
    assert validation["x"].tolist() == [1, 2, 3, 4]
    assert validation["coco/bbox_mAP"].tolist() == [0.2, 0.2, 0.1, 0.1]


def test_runs_are_drawn_in_one_picture(tmp_path):
    write_session(tmp_path / "a", "20260101", entries(1, 3, 2.0))
    write_session(tmp_path / "b", "20260101", [dict(loss=1.0, lr=0.001, epoch=1, step=7)])
    path = draw_curves([str(tmp_path / "a"), f"short={tmp_path / 'b'}"], tmp_path / "new" / "c.png")
    with Image.open(path) as picture:
        assert picture.size[0] > 1500


def test_runs_of_one_name_have_a_curve_each_or_are_refused(tmp_path, monkeypatch):
    for seed in ("seed1", "seed2", "other/seed2"):
        write_session(tmp_path / seed / "mudpt", "20260101", entries(1, 2, 2.0))
    drawn = {}
    monkeypatch.setattr(curves, "save_figure", lambda figure, *_, **__: drawn.update(it=figure))
    first, second, third = (str(tmp_path / f"{s}/mudpt") for s in ("seed1", "seed2", "other/seed2"))
    draw_curves([first, second], tmp_path / "c.png")
    (legend,) = drawn["it"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["mudpt", "mudpt, seed2"]
    with pytest.raises(
        InputError, match=r"would have the same name 'mudpt, seed2': write NAME=\S+"
    ):
        draw_curves([first, second, third], tmp_path / "c.png")


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path / "lr=0.01", "20260101", entries(1, 2, 2.0))
    assert draw_curves(["lr=0.01", "again=lr=0.01"], tmp_path / "c.png").is_file()


def test_a_folder_without_a_training_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no loss found in"):
        draw_curves([str(tmp_path)], tmp_path / "c.png")


def test_tensorboard_reads_what_the_documented_line_writes(tmp_path, repository):
    """``vis_backends`` as docs/seeing.md has it, through MMEngine's visualizer."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    line = '[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]'
    assert f"vis_backends={line}" in (repository / "docs" / "seeing.md").read_text("utf-8")
    visualizer = VISUALIZERS.build(
        dict(
            type="mmdet.DetLocalVisualizer",
            vis_backends=eval(line, {"dict": dict}),
            save_dir=str(tmp_path),
            name="tensorboard",
        )
    )
    for step in (1, 2):
        visualizer.add_scalars({"loss": 1.0 / step, "coco/bbox_mAP": 0.1 * step}, step=step)
    visualizer.close()
    events = EventAccumulator(str(tmp_path / "vis_data")).Reload()
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    assert [round(e.value, 3) for e in events.Scalars("coco/bbox_mAP")] == [0.1, 0.2]
    assert (tmp_path / "vis_data" / "scalars.json").is_file()
