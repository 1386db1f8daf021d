"""Promises of running a study in one process."""

from __future__ import annotations

import json
import re
import shutil
import threading

import pytest
import torch
from mmengine.config import Config
from mmengine.visualization import Visualizer
from safetensors.torch import load_file

from mmsdpt.engine import build_runner
from mmsdpt.experiments import jobs, running, training, worker
from mmsdpt.experiments.images import DatasetCache
from mmsdpt.experiments.loading import load_study
from mmsdpt.experiments.page import write_tables
from mmsdpt.experiments.records import read_records
from mmsdpt.experiments.running import run
from mmsdpt.utils.errors import InputError
from mmsdpt.version import __version__


@pytest.fixture
def compute(write_study, tmp_path):
    """Runs a study; gives its records by the part of their names after the host."""

    def compute(options=None, work_dir="work", **keys):
        study = load_study(write_study(**keys), options)
        records, prepared = run(study, tmp_path / work_dir, threads=1)
        assert read_records(tmp_path / work_dir / "tiny.jsonl", records) == list(records.values())
        return {name.partition("/")[2]: record for name, record in records.items()}, prepared

    return compute


ALL = ("zero_shot_ensemble", "linear_probe", "coop", "cocoop", "vpt", "independent_vl", "maple")
MUDPT = ("mudpt", "mudpt_one_way", "mudpt_transformer")


def test_every_method_is_trained_and_tested(compute):
    records, _ = compute(names=[*ALL, *MUDPT])
    assert len(records) == 2 + 9
    steps = records["coop/clothing/1_shots_seed_1/on_clothing"]
    assert 0 < steps["step_seconds"] * steps["steps"] <= 1.2 * steps["train_cpu_seconds"]
    plain = records["zero_shot/on_clothing"]
    for record in records.values():
        metrics = record["metrics"]
        assert record["status"] == "finished" and record["error"] is None
        assert metrics["accuracy"] == 100 * metrics["correct"] / metrics["total"]
        assert metrics["total"] == 8 and metrics["num_classes"] == 4  # the whole test set
        assert record["before"] == plain["metrics"]
        assert record["digest"] and record["versions"]["mmsdpt"]
        assert record["peak_memory_bytes"] > 1e7 and record["test_seconds"] > 0
        if record["trained_on"] is None:
            assert record["trainable"] == 0 and record["slots_on"] == []
        else:
            assert record["trainable"] > 0 and record["slots_on"] == ["default"]
            assert record["tuner_bytes"] > 4 * record["trainable"]
    probe = records["linear_probe/clothing/1_shots_seed_1/on_clothing"]
    assert probe["epochs"] is None and probe["metrics"]["accuracy"] > 60  # classes have colours
    assert probe["metrics"]["margin"] == plain["metrics"]["margin"]  # it leaves the features alone


def test_a_cache_of_training_images_is_as_large_as_they_are_and_searches_on_validation_images(
    compute, tmp_path, miniatures
):
    cell = "tip_adapter_f/clothing/{}_shots_seed_1"
    records, _ = compute(names=["tip_adapter_f"], shots=[2, 0])
    for shots, most in ((2, 2), (0, 3)):
        record = records[cell.format(shots) + "/on_clothing"]
        assert record["trainable"] == 4 * most * 96
        state = load_file(tmp_path / "work/tiny_clip" / cell.format(shots) / "tuner.safetensors")
        assert (state["labels"] >= 0).all()
        assert state["strengths"].tolist() != pytest.approx([1.17, 1.0])  # where it starts
    moved = tmp_path / "moved"
    shutil.copytree(miniatures, moved)
    next((moved / "clothing/validation/raccoon").iterdir()).unlink()
    keys = dict(names=["tip_adapter_f", "coop"], shots=[2])
    records, _ = compute(**keys)
    others, _ = compute({"study.data_root": str(moved)}, "other", **keys)
    different = [name for name in records if records[name]["digest"] != others[name]["digest"]]
    assert different == [cell.format(2) + "/on_clothing"]


def test_a_finished_cell_is_never_computed_again(compute, monkeypatch):
    first, _ = compute(names=["vpt", "coop"], seeds=[1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(worker.Worker, "compute", lambda *_: pytest.fail("it was computed again"))
        again, _ = compute(names=["vpt", "coop"], seeds=[1, 2])
    times = dict(time=None)
    assert [r | times for r in again.values()] == [r | times for r in first.values()]


def test_a_finished_cell_with_a_list_as_a_setting_is_recorded_once(compute, tmp_path):
    means = [{"model.data_preprocessor.mean": [100.0, 110.0, 120.0]}]
    for _ in range(2):
        compute(vary=dict(mean=means))
    assert len((tmp_path / "work/tiny.jsonl").read_text().splitlines()) == 2


def test_settings_that_are_too_long_for_a_name_are_in_the_record(compute, tmp_path):
    template = "default_hooks.classes.template"
    texts = [[f"a photo number {i} of a {{}}." for i in range(count)] for count in (12, 13)]
    records, _ = compute(names=["vpt"], vary=dict(words={template: texts}))
    assert [each["status"] for each in records.values()] == ["finished"] * 3
    assert [each["settings"].get(template) for each in records.values()] == [None, *texts]
    folders = sorted(path.name for path in (tmp_path / "work/tiny_clip").glob("vpt*"))
    assert len(folders) == 2 and all(re.fullmatch(r"vpt\[\w{16}\]", each) for each in folders)


def test_a_study_goes_on_from_its_file_of_results_alone(compute, monkeypatch, tmp_path):
    first, _ = compute(names=["vpt"], seeds=[1, 2])
    shutil.rmtree(tmp_path / "work" / "tiny_clip")
    trained = []
    train = worker.train
    monkeypatch.setattr(worker, "train", lambda *args: trained.append(1) or train(*args))
    again, _ = compute(names=["vpt"], seeds=[1, 2, 3])
    assert len(trained) == 1
    assert [again[name] | dict(time=None) for name in first] == [
        record | dict(time=None) for record in first.values()
    ]
    # A result of other settings is none of these.
    compute({"cell.optim_wrapper.optimizer.lr": 0.5}, names=["vpt"], seeds=[1])
    assert len(trained) == 2


def test_a_stack_goes_on_from_its_file_of_results_alone(compute, monkeypatch, tmp_path):
    keys = dict(protocol="stacking", source="clip_eurosat", pairs=[("vpt", "coop")])
    compute(**keys)
    shutil.rmtree(tmp_path / "work" / "tiny_clip")
    trained = []
    train = worker.train
    monkeypatch.setattr(worker, "train", lambda *args: trained.append(args[1]) or train(*args))
    compute(**keys)
    assert trained == []  # no first method, as nothing is built on it
    pairs = [("vpt", "coop"), ("vpt", "mudpt")]
    records, _ = compute(**keys | dict(pairs=pairs))
    assert [each.parts[-5:-2] for each in trained] == [
        ("work", "tiny_clip", "vpt"),
        ("eurosat", "1_shots_seed_1", "then_mudpt"),
    ]
    assert {each["status"] for each in records.values()} == {"finished"}


@pytest.fixture
def compute_some(write_study, tmp_path):
    """Runs a part of a study; gives the states of its cells in the file, by seed, and its page."""

    def compute_some(epochs, only=(), **options):
        path, root = write_study(names=["vpt"], seeds=[1, 2]), tmp_path / "work"
        run(load_study(path, {"study.epochs": epochs} | options), root, threads=1, only=only)
        study = load_study(path)
        page = write_tables(study, root, ["md"])[0].read_text()
        return {each["seed"]: each["status"] for each in read_records(root / "tiny.jsonl")}, page

    return compute_some


def test_results_of_other_settings_are_in_no_table(compute_some, monkeypatch, tmp_path):
    compute_some(1)
    states, page = compute_some(2, only=["seed_2"])
    assert states == {None: "finished", 1: "outdated", 2: "finished"}
    assert "Of 3 cells: 1 computed with other settings than the last run's" in page
    assert "(1 of 2 seeds)" in page
    path = tmp_path / "work" / "tiny.jsonl"
    newest = {each["seed"]: each for each in read_records(path)}
    assert newest[1]["metrics"] == {} and newest[1]["train_seconds"] is None
    # With the first settings again it is what it was.
    monkeypatch.setattr(worker, "train", lambda *_: pytest.fail("it was trained again"))
    shutil.rmtree(tmp_path / "work" / "tiny_clip")
    states, page = compute_some(1, only=["seed_1"])
    assert states == {None: "finished", 1: "finished", 2: "outdated"}


def test_results_that_a_run_does_not_ask_for_or_know_of_stay(compute_some, monkeypatch, tmp_path):
    compute_some(1)
    finished = {None: "finished", 1: "finished", 2: "finished"}
    assert compute_some(2, **{"study.seeds": [2]})[0] == finished  # nobody asks for seed 1
    with monkeypatch.context() as patch:  # other versions are named below the tables
        for module in (jobs, worker):
            patch.setattr(module, "versions", lambda: dict(mmsdpt="9"))
        states, page = compute_some(1, only=["seed_2"])
    assert states == finished and f"mmsdpt {__version__}, 9" in page
    # What version 0.2 wrote does not say of which settings it is.
    path = tmp_path / "work" / "tiny.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps(x | dict(recipe=None))}\n" for x in lines))
    shutil.rmtree(tmp_path / "work" / "tiny_clip")
    assert compute_some(3, only=["seed_2"])[0] == finished


def test_what_is_compared_with_the_plain_model_waits_for_it(compute, tmp_path):
    compute(names=["coop"])
    (tmp_path / "work" / "tiny.jsonl").unlink()
    # Another test of the plain model is open now, and the trained one is finished.
    records, _ = compute(names=["coop"], data=["clip_clothing", "clip_eurosat"])
    before = records["coop/clothing/1_shots_seed_1/on_clothing"]["before"]
    assert before == records["zero_shot/on_clothing"]["metrics"]
    assert all(record["before"] for record in records.values())


def test_data_may_move(compute, monkeypatch, miniatures, tmp_path):
    compute(names=["vpt"])
    moved = shutil.copytree(miniatures, tmp_path / "moved")
    monkeypatch.setattr(worker, "train", lambda *_: pytest.fail("it was trained again"))
    records, _ = compute(names=["vpt"], data_root=str(moved))
    assert all(record["status"] == "finished" for record in records.values())


def test_other_settings_or_data_are_other_results(compute, monkeypatch, miniatures, tmp_path):
    compute(names=["vpt"])
    trained = []
    train = worker.train
    monkeypatch.setattr(worker, "train", lambda *args: trained.append(1) or train(*args))
    compute({"cell.optim_wrapper.optimizer.lr": 0.5}, names=["vpt"])
    assert len(trained) == 1
    copy = tmp_path / "copy"
    shutil.copytree(miniatures, copy)
    for image in copy.rglob("clothing/train/raccoon/*"):
        image.rename(image.with_name(f"renamed_{image.name}"))
    compute({"cell.optim_wrapper.optimizer.lr": 0.5}, names=["vpt"], data_root=str(copy))
    assert len(trained) == 2


def test_a_test_set_that_is_too_large_leaves_the_memory_to_other_images(write_study, tmp_path):
    config = jobs.prepare(load_study(write_study()), tmp_path, DatasetCache()).jobs[0].config
    cache = DatasetCache(keep_images=False)
    with jobs.scope(config):
        loader = worker.loading_config(config)["test_dataloader"]
        images = cache.test_images(dict(loader, batch_size=3))
        sizes = [sum(x.nbytes for x in batch["inputs"]) for batch in images.batches()]
        for room, kept in ((sum(sizes) - 1, 0), (sum(sizes), 3)):
            cache.left = room
            next(images.batches())  # not to the end
            assert cache.left == room
            assert len(list(images.batches())) == 3
            assert len(images._kept) == kept and cache.left == (0 if kept else room)


def test_studies_share_trainings(compute, monkeypatch):
    compute(names=["vpt"], data=["clip_imagenet"])
    monkeypatch.setattr(worker, "train", lambda *_: pytest.fail("it was trained again"))
    records, _ = compute(
        names=["vpt"], protocol="transfer", source="clip_imagenet", data=["clip_eurosat"]
    )
    assert [name for name in records if "vpt" in name] == [
        f"vpt/imagenet/1_shots_seed_1/on_{data}" for data in ("imagenet", "eurosat")
    ]


def test_an_interrupted_run_ends_with_the_results_of_a_straight_one(compute, monkeypatch):
    keys = dict(names=["vpt"], seeds=[1, 2, 3])
    straight, _ = compute(work_dir="straight", **keys)
    trained, train = [], worker.train

    def interrupted(cfg, folder, cache):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(folder.name)
        return train(cfg, folder, cache)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compute(**keys)
    monkeypatch.setattr(worker, "train", lambda *a: trained.append(a[1].name) or train(*a))
    records, _ = compute(**keys)
    assert trained == [f"1_shots_seed_{seed}" for seed in (1, 2, 3)]
    assert [(n, r["metrics"]) for n, r in records.items()] == [
        (n, r["metrics"]) for n, r in straight.items()
    ]


def test_a_result_that_the_driver_did_not_write_down_is_picked_up(compute, tmp_path, monkeypatch):
    first, _ = compute(names=["vpt"])
    (tmp_path / "work" / "tiny.jsonl").unlink()
    monkeypatch.setattr(worker.Worker, "compute", lambda *_: pytest.fail("it was computed again"))
    again, _ = compute(names=["vpt"])
    assert [r["metrics"] for r in again.values()] == [r["metrics"] for r in first.values()]


def test_a_loaded_tuner_scores_as_the_one_that_was_just_trained(compute, tmp_path):
    name = "mudpt/clothing/1_shots_seed_1/on_clothing"
    first, _ = compute(names=["mudpt"])
    (tmp_path / "work" / "tiny_clip" / f"{name}.json").unlink()
    again, _ = compute(names=["mudpt"])
    assert again[name]["metrics"] == first[name]["metrics"]
    assert again[name]["train_seconds"] == first[name]["train_seconds"]


def test_a_cell_that_fails_is_reported_and_the_others_are_computed(compute, monkeypatch, tmp_path):
    train = worker.train

    def failing(cfg, folder, cache):
        if "coop" in str(folder):
            raise RuntimeError("no luck\nat all")
        return train(cfg, folder, cache)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "train", failing)
        records, _ = compute(names=["coop", "vpt"])
    failed = records["coop/clothing/1_shots_seed_1/on_clothing"]
    assert failed["status"] == "failed" and failed["error"] == "RuntimeError: no luck"
    assert failed["metrics"] == {}
    assert records["vpt/clothing/1_shots_seed_1/on_clothing"]["status"] == "finished"
    report = tmp_path / "work/tiny_clip/coop/clothing/1_shots_seed_1/error.txt"
    assert "Traceback" in report.read_text()
    records, _ = compute(names=["coop", "vpt"])  # it is tried again
    assert all(record["status"] == "finished" for record in records.values())
    assert not report.exists()


def test_the_traceback_of_a_failed_test_stays_if_the_next_test_works(
    compute, monkeypatch, tmp_path
):
    evaluate = worker.evaluate

    def failing(host, cfg, images):
        if cfg.test_dataloader.dataset.classes == "base":
            raise RuntimeError("no luck")
        return evaluate(host, cfg, images)

    monkeypatch.setattr(worker, "evaluate", failing)
    records, _ = compute(protocol="base_to_new", data=["clip_clothing"])
    cell = "coop/clothing_base/1_shots_seed_1"
    states = [records[f"{cell}/on_clothing_{half}"]["status"] for half in ("base", "new")]
    assert states == ["failed", "finished"]
    assert "no luck" in (tmp_path / "work/tiny_clip" / cell / "error.txt").read_text()


def test_a_loss_that_is_no_number_fails_and_does_not_count_as_a_result(compute):
    records, _ = compute(
        names=["coop", "vpt"], cell=dict(optim_wrapper=dict(optimizer=dict(lr=1e38)))
    )
    failed = records["coop/clothing/1_shots_seed_1/on_clothing"]
    assert failed["status"] == "failed" and failed["metrics"] == {}
    assert "lower learning rate" in failed["error"]


def test_missing_data_is_one_sentence_and_the_rest_is_computed(compute):
    records, prepared = compute(names=["coop", "vpt"], data=["clip_dtd", "clip_clothing"])
    ((sentence, cells),) = prepared.missing.items()
    assert "dtd" in sentence and len(cells) == 3
    assert len(records) == 3 and all(r["status"] == "finished" for r in records.values())


def test_missing_weights_are_one_sentence(compute, tiny_host):
    hosts = [dict(tiny_host, load_from="nowhere.pth")]
    records, prepared = compute(names=["coop", "vpt"], hosts=hosts)
    ((sentence, cells),) = prepared.missing.items()
    assert "checkpoint not found: nowhere.pth" in sentence and len(cells) == 3 and not records


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (dict(methods=dict(coop=dict(config="configs/mini/sdpt_mini_thermal.py"))), "SDPT needs"),
        (dict(methods=dict(coop=dict(settings=dict(num_tokens=-1)))), "num_tokens"),
        (dict(selection=dict(interval=1)), "study.selection needs monitor"),
        (
            dict(vary=dict(length=[dict(num_token=2)])),
            "model.tuners.default.num_token is not a setting of .*; did you mean num_tokens",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(
    compute, keys, sentence, monkeypatch
):
    monkeypatch.setattr(worker.Worker, "compute", lambda *_: pytest.fail("it was computed"))
    with pytest.raises(InputError, match=sentence):
        compute(**keys)


@pytest.mark.parametrize("as_none", [False, True], ids=["left_out", "none"])
def test_data_without_validation_images_can_be_learned_but_not_selected_on(
    compute, tmp_path, repository, as_none
):
    data = tmp_path / "no_val.py"
    clothing = repository / "configs/_base_/datasets/clip_clothing.py"
    text = Config.fromfile(clothing)
    for name in ("val_dataloader", "val_cfg", "val_evaluator"):
        text.pop(name)
        if as_none:
            text[name] = None
    text.dump(data)
    with pytest.raises(InputError, match="needs a validation split"):
        compute(data=[str(data)], selection=dict(monitor="accuracy/top1"))
    with pytest.raises(InputError, match="linear_probe chooses on validation images, but"):
        compute(names=["linear_probe"], data=[str(data)])
    records, _ = compute(data=[str(data)])
    assert {each["status"] for each in records.values()} == {"finished"}


def test_data_without_training_images_are_refused_for_a_training(compute, tmp_path, repository):
    data = tmp_path / "only_tests.py"
    clothing = repository / "configs/_base_/datasets/clip_clothing.py"
    data.write_text(f'_base_ = "{clothing}"\ntrain_dataloader = None\n')
    with pytest.raises(InputError, match="only_tests have no train_dataloader: they can only be"):
        compute(data=[str(data)])


def test_selection_counts_the_untrained_model_as_epoch_0(compute):
    # Without a rate nothing changes, so nothing is better than the model before the first step.
    records, _ = compute(
        {"cell.optim_wrapper.optimizer.lr": 0.0, "cell.param_scheduler": []},
        names=["vpt"],
        epochs=6,
        selection=dict(monitor="accuracy/top1", patience=2),
    )
    record = records["vpt/clothing/1_shots_seed_1/on_clothing"]
    assert record["best_epoch"] == 0 and record["epochs"] == 2


def test_the_state_that_is_kept_is_the_one_that_validated_best(compute, monkeypatch, tmp_path):
    scores = iter([20.0, 60.0, 40.0, 50.0])
    states, validate = [], training.QuietRunner.call_hook

    def call_hook(self, name, **kwargs):
        if name == "after_val_epoch":
            kwargs["metrics"]["accuracy/top1"] = next(scores)
            state = self.host.tuners["default"].state_dict()
            states.append({key: value.clone() for key, value in state.items()})
        return validate(self, name, **kwargs)

    monkeypatch.setattr(training.QuietRunner, "call_hook", call_hook)
    records, _ = compute(names=["vpt"], epochs=3, selection=dict(monitor="accuracy/top1"))
    record = records["vpt/clothing/1_shots_seed_1/on_clothing"]
    assert (record["best_epoch"], record["epochs"], len(states)) == (1, 3, 4)
    kept = load_file(tmp_path / "work" / record["tuner_file"])
    assert all(torch.equal(kept[name], states[1][name]) for name in kept)
    assert any(not torch.equal(kept[name], states[3][name]) for name in kept)


def test_a_training_without_a_score_does_not_take_the_best_state_of_an_earlier_one(
    compute, monkeypatch
):
    keys = dict(names=["vpt"], selection=dict(monitor="accuracy/top1"))
    assert all(record["status"] == "finished" for record in compute(**keys)[0].values())
    validate = training.QuietRunner.call_hook

    def without_score(self, name, **kwargs):
        if name == "after_val_epoch":
            kwargs["metrics"]["accuracy/top1"] = float("nan")
        return validate(self, name, **kwargs)

    monkeypatch.setattr(training.QuietRunner, "call_hook", without_score)
    records, _ = compute({"cell.optim_wrapper.optimizer.lr": 1e-4}, **keys)
    record = records["vpt/clothing/1_shots_seed_1/on_clothing"]
    assert record["status"] == "failed" and "no validation gave the score" in record["error"]


def test_a_best_state_by_several_scores_is_refused(tmp_path):
    """Each has a tuner file of its own, and a test takes one."""
    checkpoint = dict(save_best=["accuracy/top1", "accuracy/top5"])
    with pytest.raises(InputError, match="accuracy/top1, accuracy/top5: set one"):
        training.train(Config(dict(default_hooks=dict(checkpoint=checkpoint))), tmp_path, None)


def test_stacking_switches_slots_and_keeps_the_first_method(compute, tmp_path):
    records, _ = compute(
        protocol="stacking", source="clip_eurosat", pairs=[("vpt", "coop")], epochs=2
    )
    first = records["vpt/eurosat/1_shots_seed_1/on_eurosat"]
    start = "vpt/eurosat/1_shots_seed_1/then_coop/clothing/1_shots_seed_1"
    new, both = records[f"{start}/on_eurosat_new_alone"], records[f"{start}/on_eurosat"]
    assert new["slots_on"] == ["new"] and both["slots_on"] == ["old", "new"]
    assert both["on_top_of"] == "vpt" and both["method"] == "coop"
    # VPT moves the image features, CoOp the texts.
    assert new["metrics"]["gap"] != both["metrics"]["gap"] != first["metrics"]["gap"]
    config = Config.fromfile(tmp_path / "work/tiny_clip" / start / "config.py")
    assert config["model"]["tuners"]["old"]["frozen"] is True
    assert config["tuner_files"]["old"].endswith("vpt/eurosat/1_shots_seed_1/tuner.safetensors")


def test_a_second_method_without_steps_is_fitted_on_the_first_one(compute, tmp_path):
    keys = dict(protocol="stacking", source="clip_eurosat", pairs=[("vpt", "linear_probe")])
    start = "vpt/eurosat/1_shots_seed_1/then_linear_probe/clothing/1_shots_seed_1/on_clothing"
    first, _ = compute(**keys, epochs=2)
    (tmp_path / "work/tiny_clip" / f"{start}.json").unlink()
    again, _ = compute(**keys, epochs=2)  # both tuners are read from their files
    assert again[start]["metrics"] == first[start]["metrics"]
    assert first[start]["metrics"]["gap"] != first[f"{start}_new_alone"]["metrics"]["gap"]


def test_a_second_method_fails_with_the_first_one(compute, monkeypatch):
    monkeypatch.setattr(worker, "train", lambda *_: (_ for _ in ()).throw(RuntimeError("out")))
    records, _ = compute(protocol="stacking", source="clip_eurosat", pairs=[("vpt", "coop")])
    failed = {name: r["error"] for name, r in records.items() if r["status"] == "failed"}
    assert len(failed) == 6 and len(records) == 8
    assert all("RuntimeError: out" in error for error in failed.values())
    second = [error for name, error in failed.items() if "then" in name]
    assert all("the training it builds on failed" in error for error in second)


def test_a_cell_learns_what_its_config_learns_by_itself(compute, tmp_path):
    compute(names=["coop"], shots=[2], seeds=[3])
    folder = tmp_path / "work/tiny_clip/coop/clothing/2_shots_seed_3"
    cfg = Config.fromfile(folder / "config.py")
    assert cfg.runner_type == "mmsdpt.TunerRunner"
    assert cfg.train_dataloader.batch_size == 32
    assert cfg.train_dataloader.dataset.shots == 2
    assert cfg.randomness.seed == cfg.train_dataloader.dataset.seed == 3
    cfg.work_dir = str(tmp_path / "again")
    build_runner(cfg).train()
    cell, again = (load_file(x / "tuner.safetensors") for x in (folder, tmp_path / "again"))
    assert cell.keys() == again.keys()
    assert all(torch.equal(cell[name], again[name]) for name in cell)


def test_how_a_step_is_computed_may_be_set_for_a_cell(compute, monkeypatch):
    given = []
    monkeypatch.setattr(
        "mmengine.runner.runner.turn_on_activation_checkpointing",
        lambda model, modules: given.append(modules),
    )
    plain, _ = compute()
    records, _ = compute({"cell.activation_checkpointing": ["text_backbone"]})
    assert given == [["text_backbone"]]
    different = [name for name in records if records[name]["digest"] != plain[name]["digest"]]
    assert different == ["coop/clothing/1_shots_seed_1/on_clothing"]


def test_the_config_of_a_cell_has_the_values_of_the_study(compute, tmp_path):
    # MMDetection's transforms take a scale as a tuple alone, which JSON does not have.
    compute(cell=dict(train_dataloader=dict(dataset=dict(metainfo=dict(scale=(64, 64))))))
    folder = tmp_path / "work/tiny_clip/coop/clothing/1_shots_seed_1"
    cfg = Config.fromfile(folder / "config.py")
    assert cfg.train_dataloader.dataset.metainfo == dict(scale=(64, 64))


def test_studies_that_share_cells_may_run_at_the_same_time(compute, tmp_path):
    def folder_is_free():
        with worker._alone_in(folder):
            free.set()

    folder, free = tmp_path / "work/tiny_clip/coop", threading.Event()
    with worker._alone_in(folder):  # a thread with a file of its own is as another process
        other = threading.Thread(target=folder_is_free)
        other.start()
        assert not free.wait(0.3)
    assert free.wait(10)
    other.join()


def test_every_training_has_a_log_of_its_own(compute, tmp_path):
    # GLIP's runtime names its visualizer, which MMEngine would keep for all runs of a process.
    compute({"cell.visualizer.name": "visualizer"}, names=["coop"], seeds=[1, 2], epochs=2)
    for seed in (1, 2):
        folder = tmp_path / f"work/tiny_clip/coop/clothing/1_shots_seed_{seed}/log"
        assert [path.stat().st_size > 0 for path in folder.rglob("vis_data/*.json")]
    assert "visualizer" not in Visualizer._instance_dict


def test_one_process_at_a_time_writes_the_results_of_a_study(compute, tmp_path):
    with running._alone(tmp_path / "work" / ".tiny.lock"):
        with pytest.raises(InputError, match="another process runs this study"):
            compute(names=["coop"])
