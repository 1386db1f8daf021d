"""Promises of the protocols' plans and of the methods they read."""

from __future__ import annotations

import pytest

from mmsdpt.protocols.command_line import find_datasets, find_model
from mmsdpt.protocols.compose import Setup, compose, num_blocks
from mmsdpt.protocols.methods import choose_methods, presets
from mmsdpt.protocols.plan import DATASETS, VARIANTS, Training, by_training, plan
from mmsdpt.protocols.study import questions
from mmsdpt.protocols.templates import ensemble_templates
from mmsdpt.utils.errors import InputError


@pytest.fixture
def known(repository):
    return presets(repository / "configs")


def compose_for(repository, known, tiny_model, training, target="clothing", **kwargs):
    bases = repository / "configs" / "_base_"
    setup = Setup(
        runtime=bases / "clip_runtime.py",
        model=kwargs.pop("model", tiny_model),
        datasets=find_datasets(["clothing", "imagenet", "imagenet-rendition"], [], bases),
        methods=known,
        load_from="weights.pth",
        **kwargs,
    )
    return compose(setup, training, target)


def test_every_method_is_trained_once_for_each_dataset_shots_and_seed(known):
    cells = plan("few_shot", known, ["dtd", "eurosat"], [1, 2, 4, 8, 16], [1, 2, 3])
    assert len(cells) == len(set(cells)) == 2 * (2 + 9 * 15)
    assert all(cell.training.source in (None, cell.target) for cell in cells)


def test_base_to_new_trains_on_base_classes_and_tests_both_halves(known):
    for training, cells in by_training(plan("base_to_new", known, ["dtd"], [16], [1])).items():
        assert [cell.classes for cell in cells] == ["base", "new"]
        assert training.source is None or training.classes == "base"
        assert training.method != "linear_probe"


def test_transfer_trains_on_the_source_alone(known):
    methods = choose_methods(["mudpt"], known)
    cells = plan("cross_dataset", methods, DATASETS, [16], [1])
    (trained,) = {cell.training for cell in cells if cell.training.source}
    assert trained == Training("mudpt", "imagenet", "all", 16, 1)
    assert [cell.target for cell in cells if cell.training == trained] == list(DATASETS)
    targets = {c.target for c in plan("domain_generalisation", methods, VARIANTS, [16], [1])}
    assert targets == {"imagenet", *VARIANTS}


def test_a_context_per_class_cannot_name_new_classes(tmp_path, repository, known):
    path = tmp_path / "per_class.py"
    path.write_text(
        f"_base_ = {str(repository / 'configs/clip_baselines/coop_vit_b16.py')!r}\n"
        "model = dict(tuner=dict(per_class=True, num_classes=10))\n"
    )
    methods = choose_methods([str(path), "coop"], known)
    cells = plan("base_to_new", methods, ["dtd"], [16], [1])
    assert {cell.training.method for cell in cells} == {"zero_shot", "coop"}


@pytest.mark.parametrize(("shots", "epochs"), [(1, 50), (2, 100), (4, 100), (8, 200), (16, 200)])
def test_coop_trains_for_its_epochs_by_shots(known, shots, epochs):
    parts = known["coop"].parts(shots)
    assert parts["train_cfg"]["max_epochs"] == epochs
    cosine = parts["param_scheduler"][-1]
    assert cosine["T_max"] == "max_epochs"
    assert parts["batch_size"] == 32


@pytest.mark.parametrize(
    ("method", "lr", "epochs", "batch"),
    [
        ("cocoop", 0.002, 10, 1),
        ("vpt", 0.0025, 5, 4),
        ("independent_vl", 0.0025, 5, 4),
        ("maple", 0.0035, 5, 4),
        ("mudpt", 0.0025, 10, 4),
        ("mudpt_one_way", 0.0025, 10, 4),
        ("mudpt_transformer", 0.0025, 10, 4),
    ],
)
def test_the_others_train_by_their_papers_recipes(known, method, lr, epochs, batch):
    parts = known[method].parts(16)
    assert parts["optim_wrapper"]["optimizer"]["lr"] == lr
    assert parts["train_cfg"]["max_epochs"] == epochs
    assert parts["batch_size"] == batch


def test_epochs_of_the_command_line_stretch_the_schedule(known):
    parts = known["mudpt"].parts(16, epochs=3)
    assert parts["train_cfg"]["max_epochs"] == 3
    constant, cosine = parts["param_scheduler"]
    assert (constant["end"], cosine["T_max"]) == (2, "max_epochs")
    assert len(known["mudpt"].parts(16, epochs=1)["param_scheduler"]) == 1


def test_a_cell_draws_its_images_and_its_weights_by_its_seed(repository, known, tiny_model):
    cfg = compose_for(repository, known, tiny_model, Training("mudpt", "clothing", "base", 4, 3))
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    assert (train.shots, train.seed, train.classes) == (4, 3, "base")
    assert cfg.randomness.seed == 3
    assert test.get("shots") is None  # the full test set
    assert train.image_size == test.image_size == 32


def test_the_data_root_reaches_own_folders_below_it(repository, known, tiny_model):
    training = Training("mudpt", "imagenet", "all", 4, 3)
    cfg = compose_for(repository, known, tiny_model, training, data_root="/somewhere/")
    assert cfg.train_dataloader.dataset.data_root == "/somewhere/"
    assert cfg.test_dataloader.dataset.data_root == "/somewhere/clothing/"


def test_depth_is_at_most_the_blocks_of_the_model(repository, known, tiny_model):
    training = Training("mudpt", "clothing", "all", 1, 1)
    assert num_blocks(tiny_model) == 2
    assert compose_for(repository, known, tiny_model, training).model.tuners.default.depth == 2
    large = find_model("clip_vit_l14", repository / "configs" / "_base_")
    assert num_blocks(large) == 12  # of its text tower
    cfg = compose_for(repository, known, tiny_model, training, model=large)
    assert cfg.model.tuners.default.depth == 9


def test_the_ensemble_has_openais_sentences_on_imagenet_only(repository, known, tiny_model):
    training = Training("zero_shot_ensemble")
    cfg = compose_for(repository, known, tiny_model, training, "imagenet-rendition")
    assert len(cfg.test_dataloader.dataset.template) == 80
    pets = ensemble_templates("oxford_pets")
    assert pets[0] == "a photo of a {}, a type of pet." and len(pets) == 8
    assert all(sentence.count("{}") == 1 for sentence in pets)


def test_a_methods_own_sentence_takes_the_place_of_the_datasets(repository, known, tiny_model):
    """VPT is compared with "a photo of a {}." on all data."""
    for method, template in (("vpt", "a photo of a {}."), ("mudpt", None)):
        training = Training(method, "clothing", "all", 1, 1)
        cfg = compose_for(repository, known, tiny_model, training)
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            assert loader.dataset.get("template") == template


def test_a_study_changes_one_setting_at_a_time(known):
    asked = questions(
        known["mudpt"], ["length", "depth", "layers", "direction"], [1, 4], [1, 2], [1, 2]
    )
    by_name = {question.name: question for question in asked}
    lengths = by_name["length"].variants["linear injection", 4].parts()["tuners"]["default"]
    assert lengths["num_tokens"] == 4 and lengths["injection"] == "linear"
    assert lengths["depth"] == known["mudpt"].parts()["tuners"]["default"]["depth"]
    direction = by_name["direction"]
    assert direction.ticks == {0: "none", 1: "t2v", 2: "v2t", 3: "both"}
    none = [
        direction.variants[series, 0] for series in ("linear injection", "transformer injection")
    ]
    assert none[0] == none[1]  # trained once


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda bases: find_model("clip_vit_x", bases), "clip_vit_b16"),
        (lambda bases: find_datasets(["catlech"], [], bases), "caltech_101"),
        (lambda bases: find_datasets([], ["nowhere.py"], bases), "nowhere.py does not exist"),
        (lambda bases: choose_methods(["mudtp"], presets(bases.parent)), "mudpt_transformer"),
        (lambda bases: plan("few_shots", {}, [], [], []), "few_shot"),
    ],
)
def test_wrong_names_are_refused_with_those_there_are(repository, call, message):
    with pytest.raises(InputError, match=message):
        call(repository / "configs" / "_base_")
