"""Promises of configs/compatibility/: a second method trains on a frozen first one, and either task
is tested with either of them on or off.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from safetensors.torch import load_file
from torch import Tensor

import mmsdpt.datasets
import mmsdpt.engine
import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401  registers what the configs name
from mmsdpt.engine import build_runner
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import save_tuner
from mmsdpt.utils.base_weights import load_base_file, read_checkpoint, resolve_checkpoint
from mmsdpt.utils.cli import load_config
from projects.mini_world.tasks import TASKS
from projects.sdpt_poster.meta import MetaRun, build_on_meta
from tests.hosts.full_size import bert_folder
from tests.run_tools import load_tool
from tests.shake import shake

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "configs" / "compatibility"
STACKS = ("adapter_then_adapter", "adapter_then_sdpt", "vpt_then_vpt", "vpt_then_sdpt")
# The poster's six rows: train or test on the new task; and the stacks on the old one.
GLIP_L = [f"{name}_glip_l_aquarium" for name in ("adapter", "vpt", *STACKS)]
MINI = [f"mini/{name}_mini_new_names" for name in ("adapter", "vpt", *STACKS)]
ON_OLD_TASK = [f"{name}_glip_l_coco" for name in STACKS]
ON_OLD_TASK += [f"mini/{name}_mini_thermal" for name in STACKS]
WEIGHTS = "mmsdpt://mini_glip"

pytestmark = pytest.mark.usefixtures("short_beginnings")


def config(name: str, **options) -> Config:
    path = str(FOLDER / f"{name}.py")
    return load_config(argparse.Namespace(config=path, cfg_options=options))


def statements(name: str) -> list[str]:
    lines = (FOLDER / f"{name}.py").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# ------------------------------------------------------------------ the files


def test_every_row_of_the_poster_is_there_at_both_sizes():
    found = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.py")}
    assert found == {*GLIP_L, *MINI, *ON_OLD_TASK}


@pytest.mark.parametrize("name", [*GLIP_L, *MINI, *ON_OLD_TASK])
def test_a_frozen_old_method_has_its_file_and_a_new_one_trains(name):
    cfg = config(name)
    methods = name.removeprefix("mini/").split("_glip_l_")[0].split("_mini_")[0].split("_then_")
    slots = dict(zip(("old", "new"), methods, strict=False))
    assert cfg.model.tuner is None
    assert {
        slot: tuner.type.removeprefix("mmsdpt.").lower() for slot, tuner in cfg.model.tuners.items()
    } == slots
    assert [slot for slot, tuner in cfg.model.tuners.items() if tuner.get("frozen")] == ["old"]
    # What the first method's own config writes.
    (slot,) = cfg.tuner_files
    folder, file = Path(cfg.tuner_files.old).parts[1:]
    first = Config.fromfile(REPOSITORY / "configs" / "baselines" / f"{folder}.py")
    alone = dict(cfg.model.tuners.old)
    alone.pop("frozen")
    assert slot == "old" and dict(first.model.tuner) == alone
    has_best = bool(first.default_hooks.checkpoint.get("save_best"))
    assert file == ("best_tuner" if has_best else "tuner") + ".safetensors"
    assert len(statements(name)) <= 11


@pytest.mark.parametrize("name", [name for name in [*GLIP_L, *MINI] if "_then_" in name])
def test_a_new_method_trains_as_it_does_alone(name):
    """Same settings and optimizer as the method's own config; SDPT acts for its own words."""
    cfg = config(name)
    new, task = name.split("_then_")[1].split("_", 1)
    if new == "sdpt":
        folder, stem = ("mini", f"sdpt_{task}") if "mini" in task else ("sdpt", f"{task}_k10")
    else:
        folder, stem = "baselines", f"{new}_{task.replace('new_names', 'thermal')}"
    own = Config.fromfile(REPOSITORY / "configs" / folder / f"{stem}.py")
    more = dict(own_words_only=True) if new == "sdpt" else {}
    assert dict(cfg.model.tuners.new) == {**own.model.tuner, **more}
    assert cfg.optim_wrapper == own.optim_wrapper


@pytest.mark.parametrize("name", [name for name in [*GLIP_L, *MINI] if "_then_" in name])
def test_the_stated_number_of_parameters_trains(name, tmp_path):
    options = dict(lang_model_name=str(bert_folder(tmp_path))) if name in GLIP_L else {}
    with MetaRun():
        model = build_on_meta(config(name, **options).model)
    trains = {key: p.numel() for key, p in model.named_parameters() if p.requires_grad}
    assert all(key.startswith("tuners.new.") for key in trains)
    comment = (FOLDER / f"{name}.py").read_text().split("_base_", 1)[0].replace("\n#", "")
    (stated,) = re.findall(r"([\d,]+) parameters", comment)
    assert sum(trains.values()) == int(stated.replace(",", ""))
    assert model.tuners.new.num_trainable() == sum(trains.values())


# ------------------------------------------------------------------ real runs on mini GLIP


@pytest.fixture(scope="module", autouse=True)
def _few_pictures():
    with pytest.MonkeyPatch.context() as patch:
        for task in ("thermal", "new_names"):
            few = dataclasses.replace(TASKS[task], splits=(("train", 2), ("val", 1), ("test", 2)))
            patch.setitem(TASKS, task, few)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compatibility")


@pytest.fixture(scope="module")
def old_files(folder) -> dict[str, Path]:
    """First methods that act: their parameters moved away from where they start."""
    init_default_scope("mmdet")
    path = resolve_checkpoint(WEIGHTS)
    files = {}
    for method in ("adapter", "vpt"):
        torch.manual_seed(1)
        cfg = Config.fromfile(REPOSITORY / "configs/baselines" / f"{method}_mini_thermal.py")
        model = MODELS.build(cfg.model)
        load_base_file(model, path)
        model.tuners["default"].prepare()
        shake(model.tuners, 0.2)
        files[method] = save_tuner(model, folder / f"{method}.safetensors")
    return files


class Steps(Hook):
    """The model's tensors after every step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        state = runner.host.state_dict()
        self.states.append({name: value.detach().clone() for name, value in state.items()})


class Tool:
    """A command line tool in this process; keeps its last runner and all steps."""

    def __init__(self, name: str) -> None:
        self.module = load_tool(f"{name}.py")
        self.steps = Steps()

    def _build(self, cfg: Config) -> Runner:
        self.runner = build_runner(cfg)
        self.runner.register_hook(self.steps)
        return self.runner

    def __call__(self, *arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["tool.py", *map(str, arguments)])
            patch.setattr("mmsdpt.engine.build_runner", self._build)
            self.module.main()


@pytest.fixture(scope="module")
def train(folder, old_files) -> Callable[[str], Tool]:
    """Train a stack for two steps, once."""
    tools: dict[str, Tool] = {}

    def call(stack: str) -> Tool:
        if stack not in tools:
            tools[stack] = Tool("train")
            tools[stack](
                FOLDER / "mini" / f"{stack}_mini_new_names.py",
                *("--work-dir", folder / stack, "--data-root", folder / "new_names"),
                *("--cfg-options", f"tuner_files.old={old_files[stack.split('_')[0]]}"),
                *("train_cfg.max_epochs=1", "train_dataloader.batch_size=1", "log_level=ERROR"),
            )
        return tools[stack]

    return call


@pytest.fixture(scope="module")
def predict(folder) -> Callable[..., list[Tensor]]:
    """Test a config with the files of some slots; scores and boxes of all pictures."""

    def call(path: Path, task: str, *files: str, others_off: bool = False) -> list[Tensor]:
        out = folder / "predictions.pkl"
        options = ["tuner_files._delete_=True"] if others_off else []
        Tool("test")(
            *(path, *files, "--out", out),
            *("--work-dir", folder / "test", "--data-root", folder / task),
            *("--cfg-options", "model.test_cfg.score_thr=0.0", "log_level=ERROR", *options),
        )
        found = pickle.loads(out.read_bytes())
        return [sample["pred_instances"][key] for sample in found for key in ("scores", "bboxes")]

    return call


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("stack", STACKS)
def test_two_steps_move_the_new_method_and_nothing_else(stack, train, old_files):
    tool = train(stack)
    first, second = tool.steps.states
    for name, value in load_file(old_files[stack.split("_")[0]]).items():
        assert torch.equal(second[f"tuners.old.{name}"], value)
    for name, value in read_checkpoint(resolve_checkpoint(WEIGHTS))["state_dict"].items():
        assert torch.equal(second[name], value)
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    new = tool.runner.host.tuners.new
    assert moved == {f"tuners.new.{name}" for name, _ in new.named_parameters()}


@pytest.mark.parametrize(
    ("stack", "task"), [("adapter_then_sdpt", "thermal"), ("vpt_then_vpt", "new_names")]
)
def test_either_task_is_tested_with_either_method_on_or_off(
    stack, task, train, old_files, predict, folder
):
    train(stack)
    first = stack.split("_")[0]
    path = FOLDER / "mini" / f"{stack}_mini_{task}.py"
    old, new = f"old={old_files[first]}", f"new={folder / stack / 'tuner.safetensors'}"
    found = dict(
        none=predict(path, task, "--tuners-off", others_off=True),
        old=predict(path, task, old),
        new=predict(path, task, new, others_off=True),
        both=predict(path, task, old, new),
    )
    # SDPT leaves the words of the first task alone.
    alike = [("none", "new"), ("old", "both")] if "sdpt" in stack and task == "thermal" else []
    for one, two in itertools.combinations(found, 2):
        assert same(found[one], found[two]) == ((one, two) in alike), f"{one} and {two}"
    # The base model itself, and the first method by itself.
    plain = REPOSITORY / "configs" / "mini" / f"sdpt_mini_{task}.py"
    assert same(found["none"], predict(plain, task, "--tuners-off"))
    if task == "thermal":
        alone, file = REPOSITORY / "configs/baselines" / f"{first}_mini_thermal.py", old[4:]
    else:
        alone, file = FOLDER / "mini" / f"{first}_mini_new_names.py", old
    assert same(found["old"], predict(alone, task, file))
