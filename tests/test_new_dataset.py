"""Promises of docs/new_dataset.md: its configs are short, and its commands work as they stand."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image, ImageDraw
from safetensors.torch import save_file

import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import read_tuner_header

DOC = (Path(__file__).resolve().parents[1] / "docs" / "new_dataset.md").read_text()
CLASSES = ("apple", "pear")
IMAGES = 10

# So that a model with random weights and a few small images does for a test.
QUICK = {
    "model.test_cfg.score_thr": "0.0",
    "model.test_cfg.nms_pre": "20",
    "model.test_cfg.max_per_img": "3",
    "train_dataloader.dataset.dataset.pipeline.3.scale": "(64,64)",
    "val_dataloader.dataset.pipeline.1.scale": "(64,64)",
    "test_dataloader.dataset.pipeline.1.scale": "(64,64)",
    "train_cfg.max_epochs": "2",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOC, flags=re.MULTILINE | re.DOTALL)


def lines_of_code(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip() and not line.startswith("#"))


def write_voc(folder: Path) -> None:
    """Red discs are apples, green ones pears; every second image shows both."""
    folder.mkdir()
    for number in range(IMAGES):
        image = Image.new("RGB", (96, 72), (200, 200, 190))
        draw, objects = ImageDraw.Draw(image), []
        for place, (name, colour) in enumerate(zip(CLASSES, ("red", "green"), strict=True)):
            if number % 2 and place != number % 4 // 2:
                continue
            x, y = 4 + 46 * place, 5 + 3 * number
            draw.ellipse((x, y, x + 34, y + 30), fill=colour)
            box = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + 34}</xmax><ymax>{y + 30}</ymax>"
            objects.append(f"<object><name>{name}</name><bndbox>{box}</bndbox></object>")
        image.save(folder / f"{number}.jpg")
        size = "<size><width>96</width><height>72</height><depth>3</depth></size>"
        (folder / f"{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename>{size}{''.join(objects)}</annotation>"
        )


def run_tool(repository: Path, arguments: list[str], monkeypatch) -> None:
    """``python tools/...`` in this process."""
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(repository / arguments[0]), run_name="__main__")
    assert not ended.value.code


def with_options(arguments: list[str], options: dict[str, str]) -> list[str]:
    """More ``--cfg-options``; a flag that is given twice would forget the first ones."""
    added = [f"{key}={value}" for key, value in options.items()]
    if "--cfg-options" not in arguments:
        return [*arguments, "--cfg-options", *added]
    place = arguments.index("--cfg-options") + 1
    return [*arguments[:place], *added, *arguments[place:]]


def commands() -> list[list[str]]:
    return [shlex.split(block)[1:] for block in blocks("bash")]


@pytest.fixture
def workshop(repository, tmp_path, monkeypatch) -> Path:
    """A folder with the configs and the photographs, as a user would have it."""
    shutil.copytree(repository / "configs", tmp_path / "configs")
    write_voc(tmp_path / "my_fruit")
    monkeypatch.chdir(tmp_path)
    # MMEngine asks compilers and git at the start of every run, and formats the config: seconds.
    monkeypatch.setattr(Runner, "_log_env", lambda self, env_cfg: None)
    monkeypatch.setattr(Config, "pretty_text", "")
    return tmp_path


@pytest.fixture
def base_weights(repository, tmp_path) -> Path:
    init_default_scope("mmdet")
    model = MODELS.build(Config.fromfile(repository / "configs/_base_/models/mini_glip.py").model)
    path = tmp_path / "base.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def test_a_new_dataset_is_at_most_twelve_lines():
    configs = blocks("python")
    assert len(configs) == 3
    assert all(0 < lines_of_code(text) <= 12 for text in configs)


def test_the_commands_lead_from_voc_files_to_a_tested_tuner_file(
    repository, workshop, base_weights, monkeypatch
):
    (workshop / "configs/mini/sdpt_mini_fruit.py").write_text(blocks("python")[0])
    convert, zero_shot, train, test, few_shot = commands()
    run_tool(repository, [*convert, "--quiet"], monkeypatch)
    counts = {}
    for split in ("train", "val", "test"):
        content = json.loads((workshop / f"data/fruit/annotations/{split}.json").read_text())
        counts[split] = len(content["images"])
        assert tuple(category["name"] for category in content["categories"]) == CLASSES
    assert counts == {"train": 6, "val": 2, "test": 2}

    options = dict(QUICK, load_from=str(base_weights))
    run, scores = workshop / "work_dirs/sdpt_mini_fruit", 0
    for number, command in enumerate((zero_shot, train, test)):
        # Runs of one process that start in the same second would share their logs, and write over
        # each other's scores.
        options["experiment_name"] = f"step{number}"
        run_tool(repository, with_options(command, options), monkeypatch)
        for path in run.glob("*/*.json"):
            scores += "coco/bbox_mAP" in path.read_text()
            path.unlink()
    for name in ("best_tuner.safetensors", "tuner.safetensors"):
        header = read_tuner_header(run / name)
        assert header["method"] == "SDPT" and tuple(header["extra"]["classes"]) == CLASSES
    assert sorted(path.name for path in run.glob("epoch_*.pth")) == ["epoch_1.pth", "epoch_2.pth"]
    assert scores == 2, "both tests leave their AP"
    logs = "".join(path.read_text() for path in sorted(run.glob("*/*.log")))
    assert logs.count("Testing with tuner slot default switched off") == 1
    pictures = list((run / "pictures").glob("*.png"))
    assert len(pictures) == counts["test"]
    assert (run / "pictures" / "index.html").is_file()

    options.update({"train_cfg.max_epochs": "1", "experiment_name": "few_shot"})
    run_tool(repository, with_options(few_shot, options), monkeypatch)
    assert (workshop / "work_dirs/fruit_10_shots/tuner.safetensors").is_file()


def test_the_table_of_settings_says_what_the_base_config_has(repository):
    cfg = Config.fromfile(repository / "configs/mini/sdpt_mini_raccoon.py")
    table = DOC[DOC.index("| setting | where |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) >= 5
    for row in table:
        _, where, value = (cell.strip() for cell in row.strip("|").split("|"))
        found = cfg
        for part in re.findall(r"`([^`]+)`", where)[0].split("."):
            found = found[int(part) if part.isdigit() else part]
        assert found == ast.literal_eval(value), row


@pytest.mark.parametrize(
    ("folder", "first_line"),
    [
        ("mini", None),
        ("sdpt", '_base_ = "glip_l_own_data_k10.py"'),
        ("sdpt", '_base_ = "glip_l_own_data_k10_few_shot.py"'),
    ],
)
@pytest.mark.parametrize("block", [0, 2])
def test_the_configs_reach_every_place_that_names_the_data(workshop, folder, first_line, block):
    text = blocks("python")[block]
    if first_line:
        assert first_line in blocks("python")[1] or "few_shot" in first_line
        text = "\n".join([first_line, *text.splitlines()[1:]])
    path = workshop / "configs" / folder / "fruit.py"
    path.write_text(text)
    cfg = Config.fromfile(path)
    assert cfg.data_root == "data/fruit/"
    data = dict(
        train=cfg.train_dataloader.dataset.dataset,
        val=cfg.val_dataloader.dataset,
        test=cfg.test_dataloader.dataset,
    )
    for role, dataset in data.items():
        assert dataset.type == "CocoDataset"
        assert (dataset.data_root, tuple(dataset.metainfo.classes)) == ("data/fruit/", CLASSES)
        split = "valid" if block and role == "val" else role
        assert dataset.data_prefix.img.endswith(f"{split}/")
        assert split in dataset.ann_file
        assert dataset.return_classes
    for role in ("val", "test"):
        assert cfg[f"{role}_evaluator"].ann_file == f"data/fruit/{data[role].ann_file}"


def test_the_messages_that_are_explained_are_those_that_are_given(repository):
    sources = "".join(path.read_text() for path in (repository / "mmsdpt").rglob("*.py"))
    # A string that is broken over lines, and the values in it, read as one.
    sources = re.sub(r'"\s*f?"', "", sources)
    table = DOC[DOC.index("| message | what to do |") :].splitlines()[2:]
    messages = [
        message
        for row in table
        if "(MMDetection)" not in row
        for message in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]
    assert len(messages) > 6
    for message in messages:
        for part in message.split("…"):
            assert part.strip(" '") in sources, message
