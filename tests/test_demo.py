"""The demo: one model tested, trained, tested, and tested again with the tuner switched off."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw
from safetensors.torch import save_file

import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401  registers what the configs name
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.errors import InputError
from mmsdpt.visualization import Boxes, match_boxes
from projects.mini_world import demo as body
from projects.mini_world.comparison import ComparisonPicture
from tests.run_tools import load_tool

CLASSES = ("red square", "blue square")
CONFIG = """
_base_ = [
    "{repository}/configs/_base_/models/mini_glip.py",
    "{repository}/configs/_base_/datasets/converted.py",
    "{repository}/configs/_base_/default_runtime.py",
]
metainfo = dict(classes={classes})
data_root = "{folder}/"
# Random weights: every box has a low score, so all are kept.
model = dict(
    tuner=dict(type="mmsdpt.SDPT", num_tokens=2), test_cfg=dict(score_thr=0.0, max_per_img=5)
)
load_from = "{folder}/base.safetensors"
train_dataloader = dict(
    batch_size=2, dataset=dict(dataset=dict(metainfo=metainfo, data_root=data_root))
)
test_dataloader = dict(dataset=dict(metainfo=metainfo, data_root=data_root))
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=0.1),
)
"""


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    return load_tool("demo.py")


def write_split(folder: Path, split: str, count: int) -> None:
    """Pictures of one red and one blue square each, with annotations in COCO's form."""
    images, annotations = [], []
    (folder / "images" / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for i in range(1, count + 1):
        picture = Image.new("RGB", (96, 96), "grey")
        images.append(dict(id=i, file_name=f"{i}.png", width=96, height=96))
        for label, colour in enumerate(("red", "blue")):
            x = 8 + 44 * label
            ImageDraw.Draw(picture).rectangle((x, 10 * i, x + 32, 10 * i + 32), fill=colour)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=label + 1,
                    bbox=[x, 10 * i, 32, 32],
                    area=1024,
                    iscrowd=0,
                )
            )
        picture.save(folder / "images" / split / f"{i}.png")
    categories = [dict(id=k + 1, name=name) for k, name in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def task(tmp_path_factory, repository) -> Path:
    """A folder with a tiny task, base weights of random values and a config."""
    folder = tmp_path_factory.mktemp("task")
    write_split(folder, "train", 4)
    write_split(folder, "test", 2)
    text = CONFIG.format(repository=repository, folder=folder, classes=CLASSES)
    (folder / "tiny.py").write_text(text)
    cfg = Config.fromfile(folder / "tiny.py")
    init_default_scope("mmdet")
    torch.manual_seed(1)
    model = MODELS.build({**cfg.model, "tuner": None})
    model.init_weights()
    save_file(model.state_dict(), folder / "base.safetensors")
    return folder


@pytest.fixture(scope="module")
def finished(demo, task, tmp_path_factory):
    """What is printed, and the work directory of a demo of two seeds in one process."""
    out = tmp_path_factory.mktemp("out[v2]")  # no markup
    patch = pytest.MonkeyPatch()
    arguments = ["--config", str(task / "tiny.py"), "--shots", "2", "--seeds", "0", "1"]
    arguments += ["--images", "2", "--out", str(out), "--cfg-options"]
    arguments += ["test_dataloader.dataset.pipeline.1.scale=(96,96)"]
    arguments += ["train_dataloader.dataset.dataset.pipeline.3.scale=(96,96)"]
    patch.setattr("sys.argv", ["demo.py", *arguments])
    capture = patch_console(patch)
    try:
        code = demo.main()
    finally:
        patch.undo()
    return code, capture(), out


def patch_console(patch: pytest.MonkeyPatch):
    """Keep what the demo prints: fixtures of a module cannot use capsys."""
    consoles = []
    original = body.Console

    def recording(*args, **kwargs):
        consoles.append(original(*args, record=True, width=120, **kwargs))
        return consoles[-1]

    patch.setattr(body, "Console", recording)
    return lambda: consoles[0].export_text()


def test_switched_off_equals_zero_shot_and_the_demo_says_so(finished):
    code, printed, out = finished
    results = json.loads((out / "results.json").read_text())
    assert code == 0
    assert "equal the zero-shot ones exactly" in printed
    for run in results["runs"]:
        assert run["off_is_exact"] is True
        assert run["switched_off"] == run["zero_shot"]


def test_the_tuner_was_trained_and_written_for_every_seed(finished):
    _, _, out = finished
    files = [out / f"seed_{seed}" / "tuner.safetensors" for seed in (0, 1)]
    for file in files:
        header = read_tuner_header(file)
        assert header["method"] == "SDPT"
        assert header["extra"]["classes"] == list(CLASSES)
    assert files[0].read_bytes() != files[1].read_bytes()
    results = json.loads((out / "results.json").read_text())
    assert [run["trainable"] for run in results["runs"]] == [3 * 2 * 256] * 2


def test_table_has_scores_sizes_and_mean_of_the_seeds(finished):
    _, printed, _ = finished
    for words in ("zero-shot", "SDPT, 2 shots", "SDPT switched off", "1,536", "kB", "mean ± std"):
        assert words in printed


def test_tables_and_title_name_the_method_of_the_config(repository, tmp_path):
    cfg = Config.fromfile(repository / "configs/baselines/lora_mini_thermal.py")
    score, file = body.Score(1.0, 1.0, 1.0, {}), tmp_path / "tuner.safetensors"
    file.touch()
    run = body.Run(0, body.method_of(cfg), score, score, score, 1.0, 1, 2, file)
    console = body.Console(record=True, width=120)
    console.print(body.run_table(run, 1), body.seeds_table([run, run]))
    printed = console.export_text()
    assert "LoRA, 1 shot " in printed and "LoRA switched off" in printed and "SDPT" not in printed


def test_logs_of_the_toolboxes_go_to_the_file_and_not_between_the_bars(finished):
    _, printed, out = finished
    assert "mmengine - INFO" not in printed
    assert "Epoch(test)" in (out / "output.log").read_text()
    assert "SDPT training, seed 1" in printed and "loss" in printed


def test_the_printed_config_and_tuner_file_are_there_and_fit(finished, task):
    _, printed, out = finished
    line = next(line for line in printed.splitlines() if "tools/test.py" in line)
    _, _, config, file = line.split()
    assert Config.fromfile(config).model.tuner.num_tokens == 2
    assert Path(file).is_file()


def test_each_run_leaves_no_open_log_behind(finished):
    assert MMLogger.get_current_instance().handlers == []


def test_the_picture_shows_rows_of_three_panels(finished):
    _, _, out = finished
    with Image.open(out / "before_after.png") as picture:
        width, height = picture.size
        pixels = np.asarray(picture.convert("RGB"))
    assert width > 1200 and height > 800
    yellow = (np.abs(pixels.astype(int) - (240, 228, 66)) < 8).all(-1)
    assert yellow[:, : width // 3].sum() > 500  # frames and names of the ground truth


def test_a_difference_with_the_tuner_off_is_noticed(demo):
    def score(value):
        boxes = InstanceData(
            bboxes=torch.tensor([[0.0, 0.0, 5.0, value]]),
            scores=torch.tensor([0.5]),
            labels=torch.tensor([0]),
        )
        return body.Score(1.0, 1.0, 1.0, {7: boxes})

    run = body.Run(0, "SDPT", score(5.0), score(6.0), score(5.0), 1.0, 1, 2, Path("t"))
    assert run.off_is_exact
    assert not dataclasses.replace(run, switched_off=score(5.0 + 1e-6)).off_is_exact
    assert not dataclasses.replace(run, switched_off=body.Score(1, 1, 1, {})).off_is_exact


def test_a_config_that_the_demo_cannot_use_is_refused_in_one_sentence(demo, repository, task):
    def prepare(*arguments):
        return body.demo_config(demo.parse_args(list(arguments)))

    with pytest.raises(InputError, match="config not found"):
        prepare("--config", "nowhere.py")
    with pytest.raises(InputError, match="shows one tuner"):
        prepare("--config", str(repository / "configs/mini/pretrain_mini_glip.py"))
    with pytest.raises(InputError, match="FewShotDataset"):
        prepare(
            "--config",
            str(task / "tiny.py"),
            "--cfg-options",
            "train_dataloader.dataset.type=RepeatDataset",
        )


def test_every_scene_task_with_training_images_can_be_chosen(demo):
    for task in ("thermal", "aerial", "clutter", "backgrounds", "new_shapes", "new_names"):
        args = demo.parse_args(["--task", task, "--shots", "3"])
        cfg = body.demo_config(args)
        assert cfg.train_dataloader.dataset.dataset.task == task
        assert cfg.test_evaluator.ann_file == f"data/scenes/{task}/annotations/test.json"
        assert cfg.train_dataloader.dataset.shots == 3


# ---------------------------------------------------------------------- picture

TRUTH = Boxes([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 1, 0])


def test_a_detection_is_right_by_name_and_place():
    shown = Boxes([[0, 0, 10, 9], [20, 0, 30, 10], [5, 20, 15, 30]], [0, 0, 0], [0.9, 0.8, 0.7])
    matches = match_boxes(shown, TRUTH)
    assert matches.correct.tolist() == [True, False, False]
    # The second object was found under another name, the third not at all.
    assert matches.missed.tolist() == [False, False, True]


def test_of_two_detections_of_one_object_only_the_better_scored_is_right():
    shown = Boxes([[0, 0, 10, 9], [0, 0, 10, 10]], [0, 0], [0.4, 0.6])
    assert match_boxes(shown, TRUTH).correct.tolist() == [False, True]


def test_nothing_shown_and_nothing_there_can_be_matched():
    nothing = Boxes([], [], [])
    assert match_boxes(nothing, TRUTH).missed.all()
    empty = match_boxes(Boxes([[0, 0, 1, 1]], [0], [0.5]), Boxes([], []))
    assert empty.correct.tolist() == [False] and len(empty.missed) == 0


def test_detections_are_cut_at_the_score_and_reduced_to_one_name_per_place():
    found = Boxes(
        [[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60], [0, 0, 9, 10]],
        [0, 1, 0, 1],
        [0.5, 0.7, 0.35, 0.1],
    )
    shown = found.above(0.3)
    assert shown.scores.tolist() == [0.7, 0.5, 0.35]
    assert shown.best_names().labels.tolist() == [1, 0]


def test_boxes_and_columns_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 boxes were given 1 labels"):
        Boxes([[0, 0, 1, 1], [0, 0, 2, 2]], [0])
    picture = ComparisonPicture(CLASSES, ("truth", "before", "after"))
    with pytest.raises(ValueError, match="3 columns need 2"):
        picture.add(np.zeros((8, 8, 3), np.uint8), "x", TRUTH)
    with pytest.raises(ValueError, match="no rows"):
        picture.save("never.png")


def test_a_picture_of_any_shape_and_without_a_box_is_drawn(tmp_path):
    picture = ComparisonPicture(CLASSES, ("truth", "after"))
    nothing = Boxes([], [], [])
    picture.add(np.zeros((40, 90, 3), np.uint8), "wide", TRUTH, nothing)
    picture.add(np.zeros((90, 40, 3), np.uint8), "tall", Boxes([], []), nothing)
    path = picture.save(tmp_path / "new" / "picture.png", "title")
    with Image.open(path) as drawn:
        assert drawn.size[0] > 500
