"""A damaged checkpoint is refused with one sentence, and nothing of it is used."""

import collections
import copy
import os
import pickle

import pytest
import torch

from mmsdpt.engine import CheckpointError, build_runner

NAN = float("nan")


@pytest.fixture(scope="module")
def run(make_tiny_cfg, tmp_path_factory):
    """A runner that could resume, and the checkpoint that it could resume from."""
    cfg = make_tiny_cfg(tmp_path_factory.mktemp("run") / "work")
    cfg.train_cfg.update(max_epochs=1, val_interval=10)
    build_runner(cfg).train()
    runner = build_runner(cfg)
    runner.load_or_resume()
    path = f"{cfg.work_dir}/epoch_1.pth"
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    return runner, torch.load(path, weights_only=True), path


def put(part, value):
    def change(checkpoint):
        *parents, name = part.split(".")
        inner = checkpoint
        for parent in parents:
            inner = inner[int(parent) if parent.isdigit() else parent]
        inner[name] = value

    return change


def drop(*names):
    return lambda checkpoint: [checkpoint.pop(name) for name in names]


def fill(value):
    return lambda checkpoint: [t.fill_(value) for t in checkpoint["state_dict"].values()]


def tokens(value):
    return put("state_dict", {"tuners.default.tokens.weight": value})


class Malicious:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/mmsdpt_executed",))


WRONG = {"none": None, "number": 5, "list": [], "dict": {"a": 1}, "text": "x"}
PARTS = ("meta", "state_dict", "message_hub", "random_states", "optimizer", "param_schedulers")
CASES = {
    **{f"no {part}": drop(part) for part in PARTS},
    **{f"{part} is {kind}": put(part, value) for part in PARTS for kind, value in WRONG.items()},
    "no epoch": lambda c: c["meta"].pop("epoch"),
    "negative epoch": put("meta.epoch", -5),
    "epoch as text": put("meta.epoch", "x"),
    "seed as text": put("meta.seed", "x"),
    "other classes": put("meta.dataset_meta", dict(classes=("blue square", "red square"))),
    "settings as text": put("meta.settings", "x"),
    "classes as text": put("meta.trained_classes", "x"),
    "NaN": fill(NAN),
    "infinite": fill(float("inf")),
    "integers": tokens(torch.zeros(1, 3, 40, dtype=torch.int64)),
    "tensor as text": tokens("x"),
    "short generator": lambda c: c["random_states"][0].update(torch=torch.zeros(3).byte()),
    "generator of Python": lambda c: c["random_states"][0].update(python=[3, [1], None]),
    "a group more": lambda c: c["optimizer"]["param_groups"].append({"params": []}),
    "rate as text": lambda c: c["optimizer"]["param_groups"][0].update(lr="x"),
    "no rate": lambda c: c["optimizer"]["param_groups"][0].pop("lr"),
    "moment of another shape": lambda c: c["optimizer"]["state"][0].update(exp_avg=torch.zeros(2)),
    "moment not finite": lambda c: c["optimizer"]["state"][0]["exp_avg"].fill_(NAN),
    "state of no parameter": lambda c: c["optimizer"]["state"].update({7: {}}),
    "a schedule less": lambda c: c["param_schedulers"].pop(),
    "step as text": lambda c: c["param_schedulers"][0].update(last_step="x"),
    "schedule overrides a method": lambda c: c["param_schedulers"][0].update(step=1),
    "gradients as text": put("gradients", "x"),
    "a gradient of no parameter": put("gradients", [{7: torch.zeros(1, 3, 40)}]),
    "a gradient of another size": put("gradients", [{0: torch.zeros(2)}]),
    "a gradient of another type": put("gradients", [{0: torch.zeros(1, 3, 40).half()}]),
    "log of inconsistent shapes": lambda c: c["message_hub"]["log_scalars"]["train/loss"].update(
        counts=torch.zeros(1, 9)
    ),
    "log as text": put("message_hub.log_scalars", {"train/loss": "x"}),
    "score as text": put("message_hub.runtime_info", {"best_score": "x"}),
    "path as list": put("message_hub.runtime_info", {"best_ckpt": ["x"]}),
    "kept as text": put("message_hub.runtime_info", {"keep_ckpt_ids": "x"}),
    "flag as text": put("message_hub.resumed_keys", {"x": "y"}),
    "an object": lambda c: c.update(extra=Malicious()),
    "a counter": lambda c: c.update(meta=collections.Counter("abc")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_checkpoint_is_refused(run, tmp_path, case):
    runner, checkpoint, _ = run
    damaged, path = copy.deepcopy(checkpoint), tmp_path / "damaged.pth"
    CASES[case](damaged)
    torch.save(damaged, path)
    before = runner.host.state_dict()["tuners.default.tokens.weight"].clone()
    with pytest.raises(CheckpointError) as caught:
        runner.resume(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert (runner.epoch, runner.iter) == (0, 0)
    if case not in ("other classes", "no optimizer") and "group" not in case:
        now = runner.host.state_dict()["tuners.default.tokens.weight"]
        assert torch.isfinite(now).all() and now.shape == before.shape
    assert not os.path.exists("/tmp/mmsdpt_executed")


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99])
def test_a_cut_checkpoint_is_refused(run, tmp_path, length):
    runner, _, good = run
    whole, path = open(good, "rb").read(), tmp_path / "cut.pth"
    path.write_bytes(whole[: int(length if length >= 1 else length * len(whole))])
    with pytest.raises(CheckpointError, match="cannot be read|damaged|is empty"):
        runner.resume(str(path))


def test_a_bare_pickle_is_refused_and_not_run(run, tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError):
        run[0].resume(str(path))
    assert not os.path.exists("/tmp/mmsdpt_executed")


def test_a_config_in_a_checkpoint_is_not_run(run, tmp_path):
    """MMEngine's own resume() reads ``meta.config`` as a Python program."""
    runner, checkpoint, _ = run
    changed, path = copy.deepcopy(checkpoint), tmp_path / "config.pth"
    changed["meta"]["config"] = f"open({str(tmp_path / 'executed')!r}, 'w')"
    changed["message_hub"]["runtime_info"]["best_ckpt"] = "/etc/passwd"
    torch.save(changed, path)
    runner.resume(str(path))
    assert runner.epoch == 1 and not (tmp_path / "executed").exists()
    # The next best score would remove what this names.
    assert runner.message_hub.get_info("best_ckpt") == str(tmp_path / "passwd")
