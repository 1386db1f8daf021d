"""A run that stops or is killed at any moment and is resumed equals the one that never stopped."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmsdpt.engine import build_runner
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.base_weights import CheckpointError
from mmsdpt.utils.errors import InputError


class Stopped(Exception):
    """What ends a run in the middle."""


class Record(Hook):
    """Losses and flips of every step, in the order of training; ends the run where it is told."""

    def __init__(self, stop=None):
        self.stop = stop  # (epoch, iteration) before which the run stops
        self.losses, self.flips, self.rates = {}, {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.stop == (runner.epoch, runner.iter):
            raise Stopped
        samples = data_batch["data_samples"]
        self.flips[runner.iter] = {sample.img_id: sample.flip for sample in samples}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter] = {name: value.item() for name, value in outputs.items()}
        self.rates[runner.iter] = runner.optim_wrapper.get_lr()["lr"]


def train(cfg, stop=None):
    """Train; returns the runner and the record."""
    runner, record = build_runner(cfg), Record(stop)
    runner.register_hook(record)
    if stop is None:
        runner.train()
    else:
        with pytest.raises(Stopped):
            runner.train()
    return runner, record


def resumed(cfg, **overrides):
    cfg = cfg.copy()
    cfg.resume = True
    cfg.merge_from_dict(overrides)
    return cfg


def elsewhere(cfg, folder):
    cfg = cfg.copy()
    cfg.work_dir = str(folder)
    return cfg


def by_iteration(cfg, iterations=7):
    """The same run counted in iterations, over an infinite sampler."""
    cfg = cfg.copy()
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=2)
    cfg.train_dataloader.sampler = dict(type="InfiniteSampler", shuffle=True)
    cfg.param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=5)]
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    cfg.log_processor.by_epoch = False
    return cfg


def assert_same(a, b, path="state"):
    """Equal bit for bit, through dicts, lists and tensors."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), path
    else:
        assert a == b, path


def assert_same_end(straight, continued):
    """Tokens, optimizer, schedules, random states and the log of the last checkpoints."""
    ends = [torch.load(r._latest_checkpoint(), weights_only=True) for r in (straight, continued)]
    for part in ("state_dict", "optimizer", "param_schedulers", "random_states"):
        assert_same(*(end[part] for end in ends), path=part)
    scalars = [end["message_hub"]["log_scalars"] for end in ends]
    assert scalars[0].keys() == scalars[1].keys()
    for name in ("train/loss", "train/loss_cls", "train/lr", "train/grad_norm"):
        assert_same(scalars[0][name], scalars[1][name], path=name)


def with_workers(cfg, persistent=True):
    cfg = cfg.copy()
    cfg.train_dataloader.update(num_workers=2, persistent_workers=persistent)
    return cfg


@pytest.fixture(scope="module")
def straight(make_tiny_cfg, tmp_path_factory):
    """Runner and record of the uninterrupted run without workers: by epochs or by iterations."""
    done = {}

    def run(kind):
        if kind not in done:
            change = {"epochs": lambda c: c, "iterations": by_iteration}
            done[kind] = train(change[kind](make_tiny_cfg(tmp_path_factory.mktemp(kind))))
        return done[kind]

    return run


def tuner_bytes(runner):
    return Path(runner.work_dir, "tuner.safetensors").read_bytes()


@pytest.mark.parametrize("workers", [False, True], ids=["no workers", "persistent workers"])
@pytest.mark.parametrize("stop", [(1, 2), (2, 5)], ids=["after an epoch", "within an epoch"])
def test_an_epoch_based_run_resumes_bit_for_bit(tiny_cfg, straight, workers, stop):
    """Three epochs of two steps with random flips, validation in between."""
    runner, whole = straight("epochs")
    cfg = with_workers(tiny_cfg) if workers else tiny_cfg
    _, first = train(cfg, stop=stop)
    continued, second = train(resumed(cfg))
    assert sorted(second.losses) == list(range(2 * stop[0], 6))
    assert {**first.losses, **second.losses} == whole.losses
    assert {**first.flips, **second.flips} == whole.flips
    assert {**first.rates, **second.rates} == whole.rates
    assert_same_end(runner, continued)
    assert tuner_bytes(continued) == tuner_bytes(runner)


ADAFACTOR = dict(type="torch.optim.Adafactor", lr=0.05)
ONE_CYCLE = dict(type="OneCycleLR", eta_max=0.05, total_steps=6, by_epoch=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda cfg: cfg.update(param_scheduler=[ONE_CYCLE]),
        lambda cfg: cfg.optim_wrapper.update(optimizer=ADAFACTOR),
    ],
    ids=["a function in a schedule", "an optimizer's state of other shapes"],
)
def test_runs_with_other_schedules_and_optimizers_resume_bit_for_bit(tiny_cfg, tmp_path, change):
    change(tiny_cfg)
    runner, _ = train(elsewhere(tiny_cfg, tmp_path / "straight"))
    train(tiny_cfg, stop=(1, 3))
    continued, _ = train(resumed(tiny_cfg))
    assert tuner_bytes(continued) == tuner_bytes(runner)


def test_workers_that_do_not_persist_make_no_difference(tiny_cfg, straight):
    runner, whole = straight("epochs")
    other, record = train(with_workers(tiny_cfg, persistent=False))
    assert record.losses == whole.losses
    assert tuner_bytes(other) == tuner_bytes(runner)


@pytest.mark.parametrize("change", [lambda cfg: cfg, by_iteration], ids=["epochs", "iterations"])
@pytest.mark.parametrize("stopped", [False, True], ids=["whole", "stopped"])
def test_workers_end_with_their_run(tiny_cfg, change, stopped):
    """Not when garbage is collected, which takes five seconds for each. Another run may follow."""
    cfg = change(with_workers(tiny_cfg))
    cfg.val_dataloader.update(num_workers=1, persistent_workers=True)
    before = set(multiprocessing.active_children())
    stop = (0 if "max_iters" in cfg.train_cfg else 1, 3)
    runner, _ = train(cfg, stop=stop if stopped else None)
    assert set(multiprocessing.active_children()) <= before
    if not stopped:
        assert runner.val()
        assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("stop", "workers"),
    [(4, False), (5, True)],
    ids=["at a checkpoint", "after a checkpoint, persistent workers"],
)
def test_an_iteration_based_run_resumes_bit_for_bit(tiny_cfg, straight, stop, workers):
    runner, whole = straight("iterations")
    cfg = by_iteration(with_workers(tiny_cfg) if workers else tiny_cfg)
    _, first = train(cfg, stop=(0, stop))
    continued, second = train(resumed(cfg))
    assert sorted(second.losses) == [4, 5, 6]
    assert {**first.losses, **second.losses} == whole.losses
    assert {**first.flips, **second.flips} == whole.flips
    assert_same_end(runner, continued)


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
def test_gradients_that_accumulate_are_resumed(tiny_cfg, tmp_path, by_epoch):
    """The checkpoint lies between two steps of the optimizer, after which nothing is left over."""
    cfg = tiny_cfg if by_epoch else by_iteration(tiny_cfg)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.optim_wrapper.accumulative_counts = 3
    cfg.default_hooks.checkpoint.max_keep_ckpts = 3
    cfg.log_level = "WARNING"
    straight, whole = train(elsewhere(cfg, tmp_path / "straight"))
    train(cfg, stop=(1 if by_epoch else 0, 3))
    continued, record = train(resumed(cfg))
    assert record.losses == {i: loss for i, loss in whole.losses.items() if i >= 2}
    assert_same_end(straight, continued)
    logs = [Path(r.log_dir, f"{r.timestamp}.log").read_text() for r in (straight, continued)]
    assert not any("lost" in log for log in logs)

    checkpoints = {
        path.stem: torch.load(path, weights_only=True) for path in Path(cfg.work_dir).glob("*.pth")
    }
    between = {name for name, content in checkpoints.items() if "gradients" in content}
    assert between == ({"epoch_1", "epoch_2"} if by_epoch else {"iter_4"}) < set(checkpoints)
    earlier_version = checkpoints[max(between)]
    del earlier_version["gradients"]
    torch.save(earlier_version, path := f"{cfg.work_dir}_earlier.pth")
    warned, _ = train(resumed(cfg, resume_from=path))
    log = Path(warned.log_dir, f"{warned.timestamp}.log").read_text()
    assert log.count("the accumulated gradients are lost") == 1


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
def test_a_finished_run_that_is_made_longer_has_lost_no_gradients(tiny_cfg, by_epoch):
    """Its last step took the gradients of fewer iterations than the others."""
    cfg = tiny_cfg if by_epoch else by_iteration(tiny_cfg, iterations=2)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.log_level = "WARNING"
    length = "train_cfg.max_epochs" if by_epoch else "train_cfg.max_iters"
    cfg.merge_from_dict({length: 1 if by_epoch else 2})
    train(cfg)
    runner, record = train(resumed(cfg, **{length: 2 if by_epoch else 4}))
    assert sorted(record.losses) == [2, 3]
    assert "lost" not in Path(runner.log_dir, f"{runner.timestamp}.log").read_text()


@pytest.mark.parametrize("by_epoch", [True, False], ids=["iterations", "epochs"])
def test_checkpoints_that_do_not_count_as_the_run_are_refused(tiny_cfg, by_epoch):
    """A loop over epochs cannot go on within one; the other would have one, at its end."""
    cfg = by_iteration(tiny_cfg) if by_epoch else tiny_cfg
    cfg.default_hooks.checkpoint.by_epoch = by_epoch
    with pytest.raises(InputError, match=f"by_epoch={by_epoch}, .* set by_epoch={not by_epoch}"):
        train(cfg)
    assert not list(Path(cfg.work_dir).glob("*.pth"))


def test_a_checkpoint_within_an_epoch_is_warned_of(tiny_cfg, straight):
    """Earlier versions wrote such ones."""
    path = f"{straight('epochs')[0].work_dir}/epoch_2.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["meta"]["iter"] -= 1
    torch.save(checkpoint, inside := f"{tiny_cfg.work_dir}_inside.pth")
    tiny_cfg.log_level = "WARNING"
    for written, warned in ((path, 0), (inside, 1)):
        runner, _ = train(resumed(tiny_cfg, resume_from=written))
        log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
        assert log.count("after 3 iterations, but 2 epochs with the current data") == warned


def test_without_seeds_for_each_sample_a_resumed_run_would_differ(tiny_cfg):
    """What makes the tests above able to fail; it is also how the seeds are switched off."""
    tiny_cfg.randomness = dict(seed=0, per_sample=False)
    tiny_cfg.train_cfg.val_interval = 10
    cfg = with_workers(tiny_cfg)
    straight, whole = train(elsewhere(cfg, f"{cfg.work_dir}_straight"))
    train(cfg, stop=(1, 2))
    continued, _ = train(resumed(cfg))
    assert tuner_bytes(continued) != tuner_bytes(straight)


def test_a_run_without_a_seed_of_its_own_resumes_bit_for_bit(tiny_cfg, tmp_path):
    """MMEngine draws a seed; the resumed process must shuffle with the first one's."""
    tiny_cfg.train_cfg.val_interval = 10
    tiny_cfg.randomness = dict(seed=None)
    first_runner, first = train(tiny_cfg, stop=(1, 2))
    runner, second = train(resumed(tiny_cfg))
    assert runner.seed == first_runner.seed

    whole_cfg = elsewhere(tiny_cfg, tmp_path / "straight")
    whole_cfg.randomness = dict(seed=first_runner.seed)
    _, whole = train(whole_cfg)
    assert {**first.losses, **second.losses} == whole.losses


def test_every_epoch_draws_other_flips(straight):
    _, record = straight("epochs")
    draws = [{**record.flips[2 * e], **record.flips[2 * e + 1]} for e in range(3)]
    assert all(len(flips) == 4 for flips in draws)
    assert draws[0] != draws[1] or draws[1] != draws[2]


def test_a_moved_work_directory_is_resumed(tiny_cfg, tmp_path):
    train(tiny_cfg, stop=(1, 2))
    os.rename(tiny_cfg.work_dir, tmp_path / "moved")
    _, record = train(resumed(elsewhere(tiny_cfg, tmp_path / "moved")))
    assert sorted(record.losses) == list(range(2, 6))


def test_a_named_checkpoint_is_resumed(tiny_cfg, straight):
    runner, whole = straight("epochs")
    cfg = resumed(tiny_cfg, resume_from=f"{runner.work_dir}/epoch_2.pth")
    _, record = train(cfg)
    assert record.losses == {i: whole.losses[i] for i in (4, 5)}


def killed(cfg, prepare) -> None:
    """Train in a child process that kills itself with SIGKILL.

    Args:
        cfg: Config of the run.
        prepare: Called in the child with the runner; arranges the killing.
    """
    child = os.fork()
    if child == 0:
        try:
            runner = build_runner(cfg)
            prepare(runner)
            runner.train()
        finally:
            os._exit(3)  # it should have been killed
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill_myself(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


class KillAt(Hook):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.iteration:
            kill_myself()


def kill_in_the_middle(runner):
    runner.register_hook(KillAt(3))


def kill_while_writing(name, time=1):
    """Kill when ``name`` is written for the first, second... time, before it is in its place."""

    def prepare(runner):
        replace, seen = os.replace, []

        def replace_or_die(source, target):
            seen.append(os.path.basename(target))
            if seen.count(name) == time:
                kill_myself()
            replace(source, target)

        os.replace = replace_or_die

    return prepare


def kill_before_the_old_is_removed(runner):
    unlink = Path.unlink

    def unlink_or_die(self, *args, **kwargs):
        if self.name == "epoch_1.pth":
            kill_myself()
        unlink(self, *args, **kwargs)

    Path.unlink = unlink_or_die


@pytest.mark.parametrize(
    ("prepare", "start", "keep"),
    [
        (kill_in_the_middle, 2, 2),
        (kill_while_writing("epoch_2.pth"), 2, 2),
        (kill_while_writing("epoch_2.pth"), 2, 1),
        # Epoch 2 is written and last_checkpoint still names epoch 1.
        (kill_while_writing("last_checkpoint", time=2), 2, 1),
        (kill_before_the_old_is_removed, 4, 1),
    ],
    ids=["training", "writing", "writing, one kept", "pointing", "removing"],
)
def test_a_killed_run_resumes_and_ends_with_the_same_tokens(
    tiny_cfg, straight, prepare, start, keep
):
    runner, whole = straight("epochs")
    tiny_cfg.default_hooks.checkpoint.max_keep_ckpts = keep
    killed(tiny_cfg, prepare)
    continued, record = train(resumed(tiny_cfg))
    assert record.losses == {i: loss for i, loss in whole.losses.items() if i >= start}
    assert_same_end(runner, continued)
    assert not [name for name in os.listdir(tiny_cfg.work_dir) if name.startswith(".")]
    kept = {name for name in os.listdir(tiny_cfg.work_dir) if name.endswith(".pth")}
    assert kept == {f"epoch_{n}.pth" for n in (2, 3)[-keep:]}


def test_a_run_killed_before_its_first_checkpoint_is_not_resumed_as_an_earlier_one(tiny_cfg):
    tiny_cfg.default_hooks.checkpoint.max_keep_ckpts = 3
    tiny_cfg.train_cfg.max_epochs = 1
    train(tiny_cfg)
    tiny_cfg.train_cfg.max_epochs = 3
    earlier = f"{tiny_cfg.work_dir}/epoch_1.pth"
    killed(tiny_cfg, lambda runner: runner.register_hook(KillAt(0)))
    with pytest.raises(CheckpointError, match="the newest run in .* has no checkpoint yet"):
        build_runner(resumed(tiny_cfg)).train()
    _, record = train(resumed(tiny_cfg, resume_from=earlier))
    assert sorted(record.losses) == [2, 3, 4, 5]
    killed(resumed(tiny_cfg, resume_from=earlier), kill_in_the_middle)
    _, record = train(resumed(tiny_cfg))
    assert sorted(record.losses) == [2, 3, 4, 5]


def test_a_run_resumed_in_another_folder_and_killed_at_once_resumes(tiny_cfg, straight, tmp_path):
    runner, _ = straight("epochs")
    other = resumed(elsewhere(tiny_cfg, tmp_path / "other"))
    killed(
        resumed(other, resume_from=f"{runner.work_dir}/epoch_2.pth"),
        lambda r: r.register_hook(KillAt(4)),
    )
    _, record = train(other)
    assert sorted(record.losses) == [4, 5]


def test_a_run_killed_while_it_writes_its_newest_checkpoint_again_resumes(tiny_cfg, straight):
    """A new best score is written into the checkpoint that ``last_checkpoint`` names."""
    _, whole = straight("epochs")
    tiny_cfg.default_hooks.checkpoint.update(save_best="coco/bbox_mAP", rule="greater")
    killed(tiny_cfg, kill_while_writing("epoch_1.pth", time=2))
    assert Path(tiny_cfg.work_dir, "last_checkpoint").read_text().endswith("epoch_1.pth")
    _, record = train(resumed(tiny_cfg))
    assert record.losses == {i: loss for i, loss in whole.losses.items() if i >= 2}


def test_there_is_a_complete_checkpoint_at_every_moment(tiny_cfg, monkeypatch):
    """Before and after every change of the work directory the pointer names a readable file."""
    tiny_cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    tiny_cfg.train_cfg.max_epochs = 2
    tiny_cfg.default_hooks.checkpoint.save_best = "coco/bbox_mAP"
    pointer = Path(tiny_cfg.work_dir) / "last_checkpoint"
    seen = set()

    def look():
        if pointer.is_file():
            path = pointer.read_text()
            assert torch.load(path, weights_only=True)["meta"]["epoch"] in (1, 2)
            seen.add(os.path.basename(path))

    def watched(function):
        def call(*args, **kwargs):
            look()
            result = function(*args, **kwargs)
            look()
            return result

        return call

    for owner, name in ((os, "replace"), (os, "remove"), (os, "unlink"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    build_runner(tiny_cfg).train()
    assert seen == {"epoch_1.pth", "epoch_2.pth"}


def test_nothing_to_resume_starts_a_new_run_and_says_so(tiny_cfg):
    tiny_cfg.train_cfg.max_epochs = 1
    tiny_cfg.log_level = "INFO"
    runner, record = train(resumed(tiny_cfg))
    assert sorted(record.losses) == [0, 1]
    log = open(f"{runner.log_dir}/{runner.timestamp}.log").read()
    assert f"Nothing to resume in {runner.work_dir}: starting a new run" in log


def test_the_best_score_survives_a_resume(tiny_cfg, monkeypatch):
    """Scores as NumPy numbers, as some metrics give them, count too."""
    import numpy as np
    from mmdet.evaluation import CocoMetric

    scores = iter([0.2, 0.5, 0.4, 0.3])
    monkeypatch.setattr(
        CocoMetric, "compute_metrics", lambda self, results: {"AP": np.float32(next(scores))}
    )
    tiny_cfg.default_hooks.checkpoint.update(save_best="coco/AP", rule="greater")
    train(tiny_cfg, stop=(2, 4))
    best = f"{tiny_cfg.work_dir}/best_tuner.safetensors"
    written = read_tuner_header(best)["extra"]
    assert written["epoch"] == 2
    assert written["scores"] == {"coco/AP": pytest.approx(0.5)}
    before = open(best, "rb").read()
    train(resumed(tiny_cfg))
    assert open(best, "rb").read() == before
    kept = [name for name in os.listdir(tiny_cfg.work_dir) if name.startswith("best_coco")]
    assert kept == ["best_coco_AP_epoch_2.pth"]


@pytest.mark.parametrize("several", [False, True], ids=["a score", "two scores"])
def test_a_run_resumed_in_another_folder_leaves_the_first_ones_best_model(
    tiny_cfg, tmp_path, monkeypatch, several
):
    scores = iter([0.2, 0.3, 0.5])
    metric = "mmdet.evaluation.CocoMetric.compute_metrics"
    monkeypatch.setattr(metric, lambda self, results: dict.fromkeys(("AP", "AR"), next(scores)))
    wanted = ["coco/AP", "coco/AR"] if several else "coco/AP"
    tiny_cfg.default_hooks.checkpoint.update(save_best=wanted, rule="greater")
    tiny_cfg.log_level = "INFO"
    train(tiny_cfg, stop=(1, 2))
    before = {x.name: x.read_bytes() for x in Path(tiny_cfg.work_dir).glob("*[hs]")}
    assert "best_coco_AP_epoch_1.pth" in before
    other = elsewhere(tiny_cfg, tmp_path / "other")
    runner, _ = train(resumed(other, resume_from=f"{tiny_cfg.work_dir}/epoch_1.pth"))
    assert {x.name: x.read_bytes() for x in Path(tiny_cfg.work_dir).glob("*[hs]")} == before
    assert [x.name for x in Path(other.work_dir).glob("best_coco_AP*.pth")] == [
        "best_coco_AP_epoch_3.pth"
    ]
    log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert f"{tiny_cfg.work_dir}/best_coco_AP_epoch_1.pth" in log.partition("stays there")[0]


def test_a_score_that_the_checkpoint_has_does_not_count_again(tiny_cfg, tmp_path, monkeypatch):
    """A new best score is written into its epoch's checkpoint, and rates follow from scores."""
    tiny_cfg.train_cfg.max_epochs = 4
    plateau = dict(type="ReduceOnPlateauLR", monitor="coco/AP", rule="greater", patience=1)
    tiny_cfg.param_scheduler = [plateau]
    tiny_cfg.default_hooks.checkpoint.update(save_best="coco/AP", rule="greater")

    def scored(cfg, stop=None, done=0):
        scores = iter([0.1, 0.5, 0.4, 0.6][done:])
        metric = "mmdet.evaluation.CocoMetric.compute_metrics"
        monkeypatch.setattr(metric, lambda self, results: {"AP": next(scores)})
        return train(cfg, stop)

    straight, whole = scored(elsewhere(tiny_cfg, tmp_path / "straight"))
    scored(tiny_cfg, stop=(2, 5))  # the second score is the best so far
    continued, record = scored(resumed(tiny_cfg), done=2)
    assert record.rates == {i: whole.rates[i] for i in range(4, 8)}
    assert_same_end(straight, continued)
    histories = [r.message_hub.get_scalar("val/coco/AP").data[0] for r in (straight, continued)]
    assert histories[0].tolist() == histories[1].tolist() == [0.1, 0.5, 0.4, 0.6]


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
def test_a_run_that_stops_early_keeps_its_last_state(tiny_cfg, tmp_path, monkeypatch, by_epoch):
    """Whatever the interval of its checkpoints is; resumed, it has nothing left to do."""
    cfg = tiny_cfg if by_epoch else by_iteration(tiny_cfg)
    stop = dict(type="mmsdpt.EarlyStoppingHook", monitor="coco/AP", patience=1)
    cfg.custom_hooks = [stop]

    def stopped(interval, save_last=True):
        scores = iter([0.5, 0.4])  # a third validation would fail
        metric = "mmdet.evaluation.CocoMetric.compute_metrics"
        monkeypatch.setattr(metric, lambda self, results: {"AP": next(scores)})
        name = f"{interval} {save_last}"
        config = elsewhere(cfg, tmp_path / name)
        config.default_hooks.checkpoint.update(interval=interval, save_last=save_last)
        return train(config)[0], config

    (often, _), (seldom, config), (never, _) = stopped(2), stopped(10), stopped(10, save_last=False)
    assert {(r.epoch, r.iter) for r in (often, seldom, never)} == {(2 if by_epoch else 0, 4)}
    assert tuner_bytes(seldom) == tuner_bytes(often)
    assert not list(Path(never.work_dir).glob("*.safetensors"))
    (checkpoint,) = Path(config.work_dir).glob("*.pth")
    written = checkpoint.read_bytes()
    torch.rand(1)  # another process has another random state
    continued, record = train(resumed(config))
    assert record.losses == {} and continued.iter == 4
    assert tuner_bytes(continued) == tuner_bytes(often)
    assert checkpoint.read_bytes() == written
