"""What a run writes, loads and refuses; what changes in training and what does not."""

import copy
import json
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from safetensors.torch import load_file, save_file
from torch import nn

from mmsdpt.engine import CheckpointError, TunerRunner, build_runner
from mmsdpt.engine.hooks import TunerCheckpointHook
from mmsdpt.engine.resumable import RUN_CHECKPOINT
from mmsdpt.engine.state import KEPT_VALUES, pack_messages, unpack_messages
from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.grounding.seams import FusionSeam
from mmsdpt.hosts.seams import SeamMap
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import TunerFileError, load_tuner, read_tuner_header, save_tuner
from mmsdpt.utils.base_weights import load_base_weights
from mmsdpt.utils.errors import InputError


class Snapshot(Hook):
    """Every tensor of the model before the first step."""

    def before_train(self, runner):
        self.before = tensors_of(runner.model)


def tensors_of(model):
    """Parameters and buffers, also those that no state dict has."""
    return {
        name: value.detach().clone()
        for name, value in (*model.named_parameters(), *model.named_buffers())
        if not name.startswith("tuners.default.projections")  # filled at the first use
    }


@pytest.fixture(scope="module")
def finished(make_tiny_cfg, tmp_path_factory):
    """A finished run with its log, and what the model was before it."""
    cfg = make_tiny_cfg(tmp_path_factory.mktemp("finished") / "run")
    cfg.log_level = "INFO"
    cfg.default_hooks.checkpoint.update(save_best="coco/bbox_mAP", rule="greater")
    runner, snapshot = build_runner(cfg), Snapshot()
    runner.register_hook(snapshot)
    runner.train()
    return runner, snapshot.before, cfg


def last_checkpoint(runner) -> dict:
    # Plain tensors and Python's own types: nothing has to be allowed for unpickling.
    return torch.load(runner._latest_checkpoint(), weights_only=True)


# ------------------------------------------------------------------ training


def test_training_changes_the_tokens_and_not_one_bit_of_anything_else(finished):
    runner, before, _ = finished
    after = tensors_of(runner.model)
    assert after.keys() == before.keys() and len(before) > 100
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"tuners.default.tokens.weight"}
    tokens = "tuners.default.tokens.weight"
    assert (before[tokens] != after[tokens]).any(-1).all()  # every token of every layer


def test_the_base_weights_are_those_of_the_file(finished, tiny_folder):
    runner, before, _ = finished
    for name, value in load_file(tiny_folder / "base.safetensors").items():
        assert torch.equal(runner.host.state_dict()[name], value), name


def test_the_table_of_what_trains_is_in_the_log(finished):
    runner = finished[0]
    log = open(f"{runner.log_dir}/{runner.timestamp}.log").read()
    assert "Trainable parameters" in log and re.search(r"tuners.default.tokens .* 1 .* 120 ", log)


# ------------------------------------------------------------------ what is written


def test_a_checkpoint_holds_only_tuner_optimizer_schedules_log_and_random_state(finished):
    checkpoint = last_checkpoint(finished[0])
    assert set(checkpoint) == {
        "meta",
        "state_dict",
        "optimizer",
        "param_schedulers",
        "message_hub",
        "random_states",
    }
    assert set(checkpoint["state_dict"]) == {"tuners.default.tokens.weight"}
    assert set(checkpoint["optimizer"]["state"]) == {0}
    (state,) = checkpoint["random_states"]
    assert {"python", "numpy", "torch"} <= set(state)
    assert checkpoint["meta"][RUN_CHECKPOINT] and checkpoint["meta"]["epoch"] == 3


def test_the_files_of_a_run(finished):
    runner = finished[0]
    names = {
        name for name in os.listdir(runner.work_dir) if os.path.isfile(f"{runner.work_dir}/{name}")
    }
    best = {name for name in names if name.startswith("best_coco_bbox_mAP_epoch_")}
    assert len(best) == 1
    assert names - best == {
        "default_runtime.py",
        "epoch_2.pth",
        "epoch_3.pth",
        "last_checkpoint",
        "run.lock",
        "tuner.safetensors",
        "best_tuner.safetensors",
    }


def test_the_tuner_file_of_a_run_holds_its_last_tokens_and_says_so(finished, tiny_folder):
    runner = finished[0]
    path = f"{runner.work_dir}/tuner.safetensors"
    assert torch.equal(load_file(path)["tokens.weight"], runner.host.tuners.default.tokens.weight)
    header = read_tuner_header(path)
    assert header["host"] == "GLIP"
    assert header["extra"] == dict(epoch=3, iter=6, classes=["red square", "blue square"])
    best = read_tuner_header(f"{runner.work_dir}/best_tuner.safetensors")["extra"]
    assert "coco/bbox_mAP" in best["scores"] and best["epoch"] in (1, 2, 3)


def test_the_header_of_a_tuner_file_is_enough_to_build_its_model(finished):
    runner, _, cfg = finished
    path = f"{runner.work_dir}/tuner.safetensors"
    header = read_tuner_header(path)
    assert header["model"]["scope"] == "mmdet"
    model = MODELS.build(header["model"]["config"])
    load_base_weights(model, load_file(header["model"]["load_from"]), "base")
    load_tuner(model, path)
    for name, value in runner.host.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    pipeline = cfg.test_dataloader.dataset.pipeline
    assert [step["type"] for step in header["data"]["pipeline"]] == [s["type"] for s in pipeline]


class SeamHost(TunableMixin, BaseModel):
    """The eight fusion seams of GLIP-L, on one pair of projections."""

    def __init__(self):
        super().__init__()
        self.v_proj, self.l_proj = nn.Linear(256, 2048), nn.Linear(768, 2048)
        widths = dict(image=256, text=768, joint=2048, heads=8)
        pair = dict(image=self.v_proj, text=self.l_proj)
        self.points = [FusionSeam(i, widths, pair) for i in range(8)]
        self._attach_tuners(dict(type="mmsdpt.SDPT", num_tokens=10), None, None)

    def seams(self):
        return SeamMap("SeamHost", dict(fusion=self.points))

    def forward(self, **batch):
        return dict(loss=self.tuners["default"].tokens.weight.square().mean())


def test_a_checkpoint_of_glip_l_with_ten_tokens_stays_below_a_megabyte(tmp_path):
    """Without the optimizer's state, and however long the run's log has become."""
    runner = TunerRunner(
        SeamHost(),
        work_dir=str(tmp_path),
        train_dataloader=torch.utils.data.DataLoader([{}], collate_fn=lambda batch: {}),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type="mmsdpt.TunerCheckpointHook", save_optimizer=False)
        ),
        randomness=dict(seed=0),
        log_level="ERROR",
        experiment_name="below_a_megabyte",
    )
    for name in ("loss", "loss_cls", "loss_bbox", "loss_centerness", "lr", "grad_norm", "memory"):
        for step in range(2000):
            runner.message_hub.update_scalar(f"train/{name}", step / 7)
    runner.train()
    checkpoint = tmp_path / "epoch_1.pth"
    assert "optimizer" not in torch.load(checkpoint, weights_only=True)
    assert 163_840 * 4 < checkpoint.stat().st_size < 1_000_000


def test_a_log_keeps_the_window_it_averages_over(finished):
    hub = copy.deepcopy(finished[0].message_hub.state_dict())
    buffer = hub["log_scalars"]["train/loss"]
    for value in range(2 * KEPT_VALUES):
        buffer.update(float(value))
    for window, kept in ((50, KEPT_VALUES), (KEPT_VALUES + 9, KEPT_VALUES + 9)):
        found = unpack_messages(pack_messages(hub, window))["log_scalars"]["train/loss"]
        assert len(found.data[0]) == kept
        assert found.mean(50) == buffer.mean(50) and found.current() == buffer.current()


def test_two_slots_that_train_have_a_file_each(tiny_cfg):
    tiny_cfg.train_cfg.update(max_epochs=1, val_interval=10)
    sdpt = dict(type="mmsdpt.SDPT", num_tokens=2)
    tiny_cfg.model.tuner = None
    tiny_cfg.model.tuners = dict(a=sdpt, b=sdpt, old=dict(sdpt, frozen=True))
    build_runner(tiny_cfg).train()
    written = {name for name in os.listdir(tiny_cfg.work_dir) if name.endswith(".safetensors")}
    assert written == {"tuner_a.safetensors", "tuner_b.safetensors"}
    assert read_tuner_header(f"{tiny_cfg.work_dir}/tuner_b.safetensors")["slot"] == "b"


# ------------------------------------------------------------------ what is loaded


def test_a_tuner_file_and_a_checkpoint_of_a_run_give_the_same_test(
    finished, make_tiny_cfg, tmp_path
):
    runner, before, _ = finished
    expected = runner.host.tuners.default.tokens.weight
    random = []
    for name in ("tuner.safetensors", "epoch_3.pth"):
        cfg = make_tiny_cfg(tmp_path / "test")
        cfg.tuner_files = dict(default=f"{runner.work_dir}/{name}")
        test = build_runner(cfg)
        test.load_or_resume()
        assert torch.equal(test.host.tuners.default.tokens.weight, expected)
        random.append(test.resumed_random_states)
    # The random state of another run is none of this run's business.
    assert random == [None, None]


def change_of_method(cfg):
    cfg.model.tuner.num_tokens = 4


def change_of_settings(cfg):
    cfg.model.tuner.sides = "image"  # the same tensors with another meaning


def change_of_slot(cfg):
    cfg.model.tuners = dict(other=cfg.model.pop("tuner"))


def change_of_trained_parts(cfg):
    cfg.model.trainable = [r"head\.bias0$"]


def change_of_base(cfg):
    state = load_file(cfg.load_from)
    state["neck.fpn_convs.0.conv.weight"] += 0.1
    cfg.load_from = cfg.work_dir + ".safetensors"
    save_file(state, cfg.load_from)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            change_of_method,
            r"other parameters: default\.config\.num_tokens: 3 in the file, 4 in the model$",
        ),
        (
            change_of_settings,
            r"other parameters: default\.config\.sides: dual in the file, image in the model$",
        ),
        (change_of_slot, "trained other parameters: default: .*absent in the model; other: absent"),
        (
            change_of_trained_parts,
            "trained other parameters: bbox_head.head.bias0: absent in the file",
        ),
        (change_of_base, "on other base weights: use the same checkpoint with load_from"),
    ],
)
def test_a_checkpoint_of_another_kind_of_run_is_not_resumed(finished, tiny_cfg, change, words):
    change(tiny_cfg)
    tiny_cfg.resume = True
    tiny_cfg.resume_from = f"{finished[0].work_dir}/epoch_2.pth"
    runner = build_runner(tiny_cfg)
    before = copy.deepcopy(runner.host.tuners.state_dict())
    with pytest.raises(CheckpointError, match=words):
        runner.train()
    for name, value in runner.host.tuners.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_is_no_checkpoint_of_a_run_is_not_resumed(tiny_cfg, tiny_folder, tmp_path):
    proof = tmp_path / "executed"

    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(proof),))

    torch.save(dict(meta=Malicious()), tmp_path / "evil.pth")
    torch.save(dict(state_dict={}, meta={}), tmp_path / "base.pth")
    runner = build_runner(tiny_cfg)
    for name, words in (
        (tmp_path / "evil.pth", "holds Python objects besides tensors"),
        (
            tmp_path / "base.pth",
            "is not a checkpoint of an mmsdpt run; set base weights as load_f",
        ),
        (tiny_folder / "base.safetensors", "is not a checkpoint of an mmsdpt run"),
        (tmp_path / "nothing.pth", "checkpoint not found"),
    ):
        with pytest.raises(CheckpointError, match=words):
            runner.resume(str(name))
    assert not proof.exists()


def test_a_pointer_to_a_checkpoint_that_is_gone_is_refused_with_a_sentence(tiny_cfg):
    tiny_cfg.resume = True
    os.mkdir(tiny_cfg.work_dir)
    with open(f"{tiny_cfg.work_dir}/last_checkpoint", "w") as file:
        file.write("/nowhere/epoch_7.pth")
    with pytest.raises(CheckpointError, match="last_checkpoint names /nowhere/epoch_7.pth, which"):
        build_runner(tiny_cfg).train()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"load_from": "checkpoints/glip_l_mmdet-abfe026b.pth"},
            "download https://.*abfe026b.pth to",
        ),
        (
            {"model.bbox_head.num_dyhead_blocks": 2},
            "does not fit GLIP: .*tensors missing: bbox_head",
        ),
        ({"model.backbone.window_size": 2}, r"tensors of another shape: backbone.*\(49, 1\) inst"),
    ],
)
def test_base_weights_that_are_missing_or_do_not_fit_end_the_run(tiny_cfg, changes, words):
    tiny_cfg.merge_from_dict(changes)
    with pytest.raises(CheckpointError, match=words):
        build_runner(tiny_cfg).train()


def test_a_tuner_file_that_does_not_fit_ends_the_run(tiny_cfg, finished):
    tiny_cfg.model.tuner.num_tokens = 4
    tiny_cfg.tuner_files = dict(default=f"{finished[0].work_dir}/tuner.safetensors")
    with pytest.raises(TunerFileError, match="num_tokens: 3 in the file, 4 in the model"):
        build_runner(tiny_cfg).train()


@pytest.mark.parametrize("loader", ["train", "val"])
@pytest.mark.parametrize("missing", ["ann_file", "data_prefix"])
def test_missing_data_ends_the_run_with_one_sentence(tiny_cfg, loader, missing):
    dataset = tiny_cfg[f"{loader}_dataloader"].dataset
    if missing == "ann_file":
        dataset.ann_file = "nothing.json"
    else:
        dataset.data_prefix.img = "nothing/"
    with pytest.raises(InputError, match="not found: .*/squares/nothing.*--data-root"):
        build_runner(tiny_cfg).train()


def test_a_missing_annotation_file_of_the_metric_ends_the_run_with_one_sentence(tiny_cfg):
    tiny_cfg.val_evaluator.ann_file = "nothing.json"
    with pytest.raises(InputError, match="annotation file of CocoMetric not found: nothing.json"):
        build_runner(tiny_cfg).train()


def test_a_dataset_that_keeps_its_class_names_ends_the_run_before_the_first_step(tiny_cfg):
    tiny_cfg.train_dataloader.dataset.return_classes = False
    with pytest.raises(InputError, match="set return_classes=True"):
        build_runner(tiny_cfg).train()


# ------------------------------------------------------------------ the rest


def test_the_checkpoint_hook_wants_the_runner_it_belongs_to():
    with pytest.raises(TypeError, match="needs runner_type='mmsdpt.TunerRunner'"):
        TunerCheckpointHook().before_train(object.__new__(Runner))


def test_only_the_training_of_a_work_folder_writes_its_config(tiny_cfg, tmp_path):
    """Not a test, nor a training that is refused, as another one is at work there."""
    file = tmp_path / "cfg.py"
    file.touch()
    written = Path(tiny_cfg.work_dir) / file.name
    runner = build_runner(Config(tiny_cfg.to_dict(), filename=str(file)))
    assert not written.exists()
    runner.train()
    assert written.exists()


def test_configs_without_a_runner_type_get_the_toolboxs_runner(tiny_cfg):
    tiny_cfg.pop("runner_type")
    tiny_cfg.pop("default_hooks")
    assert type(build_runner(tiny_cfg)) is Runner


def test_alternating_phases_train_and_leave_both_sides_on(tiny_cfg, monkeypatch):
    from mmsdpt.tuners import SDPT

    tiny_cfg.train_cfg.update(max_epochs=2, val_interval=10)
    tiny_cfg.custom_hooks = [dict(type="mmsdpt.AlternatingPhasesHook")]
    phases = []
    forward = SDPT.fusion_tokens
    monkeypatch.setattr(
        SDPT,
        "fusion_tokens",
        lambda self, *args: phases.append(self.synchronous_sides) or forward(self, *args),
    )
    runner = build_runner(tiny_cfg)
    runner.train()
    assert phases[:4] == [("image",), ("text",)] * 2  # then comes the validation
    assert runner.host.tuners.default.synchronous_sides == ("image", "text")


def test_the_pre_training_of_a_whole_model_is_saved_and_resumed(tiny_cfg):
    """Without a tuner a checkpoint holds the model."""
    tiny_cfg.model.tuner = None
    tiny_cfg.train_cfg.update(max_epochs=1, val_interval=10)
    runner = build_runner(tiny_cfg)
    runner.train()
    assert set(last_checkpoint(runner)["state_dict"]) == set(runner.host.state_dict())
    tiny_cfg.resume = True
    tiny_cfg.train_cfg.max_epochs = 2
    again = build_runner(tiny_cfg)
    again.train()
    assert again.iter == 4


def test_a_tuner_file_written_by_hand_has_no_need_of_a_run(finished, tmp_path):
    path = save_tuner(finished[0].host, tmp_path / "own.safetensors")
    assert read_tuner_header(path)["extra"] == {}


def test_the_data_are_checked_for_whoever_asks_for_the_test_loop_first(tiny_cfg, tmp_path):
    """As ``tools/test.py --out`` does, which wrote boxes of one class under the id of another."""
    dataset = tiny_cfg.test_dataloader.dataset
    content = json.loads((Path(dataset.data_root) / "annotations.json").read_text())
    content["categories"].reverse()
    (tmp_path / "reversed.json").write_text(json.dumps(content))
    dataset.ann_file = tiny_cfg.test_evaluator.ann_file = str(tmp_path / "reversed.json")
    assert build_runner(tiny_cfg).test_dataloader.dataset.cat_ids == [1, 2]
