"""Promises of studies: the cells of each protocol, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mmsdpt.experiments.compose import compose
from mmsdpt.experiments.configs import REPOSITORY, find_config
from mmsdpt.experiments.images import DatasetCache
from mmsdpt.experiments.jobs import prepare
from mmsdpt.experiments.loading import load_study
from mmsdpt.utils.errors import InputError

STUDIES = sorted(Path(__file__).parents[2].glob("projects/*/studies/*.py"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_projects_has_cells_of_names_of_their_own(path):
    study = load_study(path)
    names = [cell.name for cell in study.cells()]
    assert names and len(names) == len(set(names))
    assert study.title and study.name == path.stem


def names_of(path: Path) -> list[str]:
    return [cell.name for cell in load_study(path).cells()]


def test_few_shot_trains_each_method_with_each_number_of_shots_and_seed(write_study):
    names = names_of(write_study(names=["zero_shot", "coop", "vpt"], shots=[1, 2], seeds=[1, 2, 3]))
    assert len(names) == 1 + 2 * 2 * 3
    assert names[0] == "tiny_clip/zero_shot/on_clothing"
    assert "tiny_clip/coop/clothing/2_shots_seed_3/on_clothing" in names


def test_base_to_new_tests_both_halves_and_leaves_out_what_cannot_name_classes(write_study):
    path = write_study(protocol="base_to_new", names=["linear_probe", "coop"])
    assert load_study(path).left_out == ["linear_probe"]
    assert names_of(path) == [
        "tiny_clip/zero_shot/on_clothing_base",
        "tiny_clip/zero_shot/on_clothing_new",
        "tiny_clip/coop/clothing_base/1_shots_seed_1/on_clothing_base",
        "tiny_clip/coop/clothing_base/1_shots_seed_1/on_clothing_new",
    ]


def test_transfer_trains_on_the_source_alone_and_tests_it_too(write_study):
    names = names_of(write_study(protocol="transfer", source="clip_eurosat", names=["coop"]))
    assert names[2:] == [
        f"tiny_clip/coop/eurosat/1_shots_seed_1/on_{data}" for data in ("eurosat", "clothing")
    ]


def test_stacking_tests_both_data_with_either_slot_and_with_both(write_study):
    path = write_study(protocol="stacking", source="clip_eurosat", pairs=[("vpt", "coop")])
    second = "tiny_clip/vpt/eurosat/1_shots_seed_1/then_coop/clothing/1_shots_seed_1"
    assert names_of(path)[2:] == [
        "tiny_clip/vpt/eurosat/1_shots_seed_1/on_eurosat",
        "tiny_clip/vpt/eurosat/1_shots_seed_1/on_clothing",
        f"{second}/on_eurosat_new_alone",
        f"{second}/on_eurosat",
        f"{second}/on_clothing_new_alone",
        f"{second}/on_clothing",
    ]


def test_vary_takes_grids_and_lists_and_computes_equal_settings_once(write_study):
    path = write_study(
        names=["mudpt"],
        vary=dict(
            length=dict(injection=["linear", "transformer"], num_tokens=[1, 2]),
            rate=[
                {"optim_wrapper.optimizer.lr": 0.1},
                dict(injection="linear", num_tokens=2),
                dict(layers=[0, 1]),
            ],
        ),
    )
    assert [name.split("/")[1] for name in names_of(path)[1:]] == [
        "mudpt[injection=linear,num_tokens=1]",
        "mudpt[injection=linear,num_tokens=2]",
        "mudpt[injection=transformer,num_tokens=1]",
        "mudpt[injection=transformer,num_tokens=2]",
        "mudpt[optim_wrapper.optimizer.lr=0.1]",
        "mudpt[layers=(0,1)]",
    ]


def test_what_was_known_is_tested_after_each_training_and_once_without(write_study):
    names = names_of(write_study(data=["clip_clothing"], forgetting=["clip_eurosat"]))
    assert [name.split("/", 1)[1] for name in names] == [
        "zero_shot/on_clothing",
        "zero_shot/on_eurosat",
        "coop/clothing/1_shots_seed_1/on_clothing",
        "coop/clothing/1_shots_seed_1/on_eurosat",
    ]


def composed(path, tmp_path, number=-1):
    study = load_study(path)
    return compose(study, study.cells()[number], tmp_path, lambda cfg: None)


def test_settings_with_dots_are_of_the_whole_config_and_a_star_multiplies(write_study, tmp_path):
    rate = "optim_wrapper.optimizer.lr"
    config = "configs/clip_baselines/coop_vit_b16.py"
    own = composed(write_study(), tmp_path)["optim_wrapper"]["optimizer"]["lr"]
    varied = write_study(vary=dict(rate=[{rate: "*3"}]))
    assert composed(varied, tmp_path)["optim_wrapper"]["optimizer"]["lr"] == pytest.approx(3 * own)
    methods = dict(mine=dict(config=config, settings={rate: "* 0.5", "num_tokens": 7}))
    halved = composed(write_study(["mine"], methods), tmp_path)
    assert halved["optim_wrapper"]["optimizer"]["lr"] == pytest.approx(0.5 * own)
    assert halved["model"]["tuners"]["default"]["num_tokens"] == 7
    wrong = write_study(vary=dict(rate=[{"default_scope": "*3", "optim_wrapper.type": "*3"}]))
    with pytest.raises(InputError, match="multiplies 'OptimWrapper', which is not a number"):
        composed(wrong, tmp_path)


def test_data_set_what_a_method_does_on_them(write_study, tmp_path):
    rate = "optim_wrapper.optimizer.lr"
    data = dict(
        name="clothing",
        config="configs/_base_/datasets/clip_clothing.py",
        settings=dict(coop={rate: "*0.5", "num_tokens": 7}),
    )
    own = composed(write_study(), tmp_path)["optim_wrapper"]["optimizer"]["lr"]
    study = write_study(data=[data])
    found = composed(study, tmp_path)
    assert found["optim_wrapper"]["optimizer"]["lr"] == pytest.approx(0.5 * own)
    assert found["model"]["tuners"]["default"]["num_tokens"] == 7
    names = [cell.name for cell in load_study(study).cells()]
    assert names == [cell.name for cell in load_study(write_study()).cells()]
    varied = composed(
        write_study(data=[data], vary=dict(a=[{rate: "*4", "num_tokens": 2}])), tmp_path
    )
    assert varied["optim_wrapper"]["optimizer"]["lr"] == pytest.approx(2 * own)
    assert varied["model"]["tuners"]["default"]["num_tokens"] == 2
    vpt = composed(write_study(["vpt"], data=[data]), tmp_path)
    assert vpt == composed(write_study(["vpt"]), tmp_path)


@pytest.mark.parametrize(
    "epochs, of_data, expected",
    [
        (30, (), {0: 30, 1: 30, 16: 30}),
        ([(1, 50), (8, 200)], (), {1: 50, 7: 50, 16: 200}),
        (30, [(0, 6), (1, 18)], {0: 6, 1: 18, 16: 18}),
        (30, [(8, 200)], {1: 30, 16: 200}),
        (30, 7, {0: 7, 16: 7}),
    ],
)
def test_epochs_are_a_number_or_by_least_number_of_shots(
    epochs, of_data, expected, write_study, tmp_path
):
    coop = dict(config="configs/clip_baselines/coop_vit_b16.py", epochs=epochs)
    data = dict(config="configs/_base_/datasets/clip_clothing.py", epochs=of_data)
    for shots, number in expected.items():
        path = write_study(["coop"], dict(coop=coop), data=[data], shots=[shots], epochs=None)
        assert composed(path, tmp_path)["train_cfg"]["max_epochs"] == number


@pytest.mark.parametrize(
    ("classes", "shots", "epochs"),
    [
        (10, 16, 1600),  # five batches of 32
        (5, 16, 2667),  # 8,001 iterations in three batches
        (10, 1, 500),  # one batch
        (1000, 16, 16),
        (1000, 1, 16),  # 32 batches with some images in the last: 512 iterations
    ],
)
def test_iterations_by_shots_are_the_same_on_all_data(
    classes, shots, epochs, write_study, tmp_path
):
    def trained(**keys):
        study = load_study(write_study(["clip_lora"], shots=[shots], **{"epochs": None, **keys}))
        config = compose(study, study.cells()[-1], tmp_path, lambda cfg: Labels(classes, shots))
        return config["train_cfg"]["max_epochs"], config["train_cfg"]["val_interval"]

    assert trained() == (epochs, epochs)
    assert trained(epochs=3) == (3, 3)
    data = dict(config="configs/_base_/datasets/clip_clothing.py", epochs=7)
    assert trained(data=[data]) == (7, 7)


def test_iterations_by_shots_of_a_detector_are_refused(repository, tmp_path):
    study = load_study(repository / "projects/sdpt_poster/studies/comparison_mini.py")
    cell = study.cells()[-1]
    method = replace(study.methods[cell.training.method], iterations_per_shot=5, epochs=())
    data = {name: replace(each, epochs=()) for name, each in study.data.items()}
    methods = {**study.methods, method.name: method}
    study = replace(study, methods=methods, data=data, epochs=None)
    with pytest.raises(
        InputError, match=f"of '{method.name}' is only for classification.*set epochs"
    ):
        compose(study, cell, tmp_path, lambda cfg: None)


class Labels(list):
    """A data set with so many images of each class."""

    def __init__(self, classes, shots):
        super().__init__(list(range(classes)) * shots)

    def get_data_info(self, i):
        return dict(gt_label=self[i])


def test_settings_are_chosen_on_validation_images(write_study, tmp_path):
    config = composed(write_study(split="val"), tmp_path)
    assert config["test_dataloader"]["dataset"]["split"] == "val"
    assert composed(write_study(), tmp_path)["test_dataloader"]["dataset"]["split"] == "test"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (dict(split="train"), "study.split must be test or val"),
        (dict(name="voc/few_shot"), "so it must not contain a slash, got 'voc/few_shot'"),
        (dict(forgetting=["clip_clothing"]), "clothing is in both study.data and study.forgetting"),
        (
            dict(forgetting=["clip_dtd"], protocol="base_to_new"),
            "study.forgetting is only for the protocols comparison and few_shot",
        ),
        (dict(seed=[1]), "study has no key 'seed'; its keys are"),
        (dict(protocol="few_shots"), "unknown protocol 'few_shots'; the protocols are few_shot"),
        (dict(protocol="transfer"), "the protocol transfer needs study.source"),
        (dict(protocol="stacking", source="clip_dtd"), "study.pairs must be set for"),
        (dict(names=["codp"]), "there is no method 'codp'; choose from zero_shot"),
        (dict(data=["clip_dtt"]), "config not found: configs/_base_/datasets/clip_dtt.py"),
        (dict(seeds=["one"]), "study.seeds must hold integers from 0, got 'one'"),
        (dict(seeds=[1, -1]), "study.seeds must hold integers from 0, got -1"),
        (dict(hosts=[dict(config="configs/_base_/models/mini_clip.py", size=3)]), "no key 'size'"),
        (dict(data=[]), "study lacks data"),
        (dict(epochs=0), "study.epochs must be a positive integer, got 0"),
        (dict(image_size="big"), "study.image_size must be a positive integer, got 'big'"),
        (dict(methods=dict(coop=dict(epochs=0))), "epochs of 'coop' must be a positive integer"),
        (
            dict(methods=dict(coop=dict(iterations_per_shot=0))),
            "iterations_per_shot of 'coop' must be a positive integer, got 0",
        ),
        (dict(methods=dict(coop=dict(epochs=[5]))), "or pairs of a number of shots and one, got"),
        (
            dict(selection=dict(monitor="a", patiance=1)),
            "study.selection has no key 'patiance'; its keys are monitor, rule, interval, patience",
        ),
        (dict(vary=["num_tokens"]), "study.vary must be a dict of which each entry is a list"),
        (dict(vary=dict(a=["num_tokens"])), "study.vary must be a dict of which each entry"),
        (
            dict(data=[dict(group="a")]),
            "study.data has {'group': 'a', 'name': ''}, but each entry needs a",
        ),
        # Nothing would be trained, and the numbers of zero_shot be told as theirs.
        (
            dict(names=[dict(name="codp", settings=dict(num_tokens=2))]),
            "there is no method 'codp'; choose from zero_shot",
        ),
        (
            dict(names=["mine"], methods=dict(mine=dict(label="Mine"))),
            "the method 'mine' has no config, so it trains nothing; choose from zero_shot",
        ),
        (
            dict(names=[dict(name="zero_shot", settings=dict(num_tokens=2))]),
            "the method 'zero_shot' has no config, so it trains nothing",
        ),
        (
            dict(
                data=[
                    dict(
                        config="configs/_base_/datasets/clip_dtd.py",
                        settings=dict(cop=dict(num_tokens=2)),
                    )
                ]
            ),
            "settings of data 'dtd' has no key 'cop'",
        ),
    ],
)
def test_a_mistake_is_one_sentence(write_study, keys, sentence):
    with pytest.raises(InputError) as caught:
        load_study(write_study(**keys))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["hosts", "methods", "data", "forgetting", "source"])
def test_two_configs_of_one_name_are_refused(write_study, tiny_host, tmp_path, key):
    """Their results would have one name, and those of one would be told as the other's."""
    of = dict(methods="configs/clip_baselines/coop_vit_b16.py", hosts=tiny_host["config"])
    config = of.get(key, "configs/_base_/datasets/clip_clothing.py")
    paths = [tmp_path / number / Path(config).name for number in ("1", "2")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(f"_base_ = {str(find_config(config).absolute())!r}")

    def load(one, two):
        if key == "source":
            return load_study(write_study(protocol="transfer", source=one, data=[two]))
        entries = dict(data=["clip_eurosat"], names=["coop"])
        entries["names" if key == "methods" else key] = [one, two]
        return load_study(write_study(**entries))

    one, two = map(str, paths)
    with pytest.raises(InputError, match=r"two different \w+ have the name '.*: give each a"):
        load(one, two)
    assert load(one, one).cells()


def test_a_dict_without_a_config_says_more_of_what_its_name_stands_for(write_study, tmp_path):
    rate = "optim_wrapper.optimizer.lr"
    config = "configs/clip_baselines/coop_vit_b16.py"
    methods = dict(mine=dict(label="Mine", config=config, settings={rate: 0.5, "num_tokens": 3}))
    mine = dict(name="mine", settings=dict(num_tokens=2))
    path = write_study([mine], methods, data=[dict(name="clip_clothing", group="a")])
    study = load_study(path)
    assert study.data["clothing"].group == "a" and study.methods["mine"].label == "Mine"
    found = composed(path, tmp_path)
    assert found["model"]["tuners"]["default"]["num_tokens"] == 2
    assert found["optim_wrapper"]["optimizer"]["lr"] == 0.5


def test_what_trains_nothing_may_have_sentences_and_settings_of_its_own(write_study):
    threshold = dict(name="loose", settings={"model.test_cfg.score_thr": 0.01})
    ensemble = dict(name="many", ensemble=True)
    methods = load_study(
        write_study([threshold, ensemble, dict(name="zero_shot", label="As it is")])
    )
    assert {name: each.label for name, each in methods.methods.items()} == dict(
        zero_shot="As it is", loose="loose", many="many"
    )
    assert not any(each.trains for each in methods.methods.values())


def test_pairs_may_name_paths(write_study):
    path = "configs/clip_baselines/coop_vit_b16.py"
    study = load_study(
        write_study(protocol="stacking", source="clip_eurosat", pairs=[("vpt", path)])
    )
    assert study.pairs == [("vpt", "coop_vit_b16")]


def test_options_change_the_study_and_all_cells(write_study):
    path = write_study()
    study = load_study(path, {"study.seeds": [7], "cell.optim_wrapper.optimizer.lr": 0.5})
    assert study.seeds == [7]
    assert study.cell["optim_wrapper"]["optimizer"]["lr"] == 0.5
    assert study.cell["model"]["predict_features"] is True


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stdy.seeds": [1]}, "stdy.seeds: the config has no stdy; did you mean study"),
        ({"study.sedes": [1]}, "the config has no sedes; did you mean seeds"),
        ({"study.epochs": "many"}, "study.epochs is 1 in the config, but its new value 'many'"),
        ({"optim_wrapper.optimizer.lr": 1}, "the config has no optim_wrapper"),
        ({"cell.optim_wraper.type": "A"}, "no optim_wraper; did you mean optim_wr"),
    ],
)
def test_an_option_for_nothing_is_refused(write_study, options, sentence):
    with pytest.raises(InputError, match=sentence):
        load_study(write_study(), options)


def test_options_may_name_what_the_study_does_not_have(write_study):
    """However much it is like what it has."""
    loader, selection = dict(batch_size=2), dict(monitor="accuracy/top1")
    path = write_study(cell=dict(train_dataloader=loader), selection=selection)
    path.write_text(path.read_text().replace("'shots': [1], ", ""))
    options = {
        "study.shots": [2],
        "study.selection.interval": 2,
        "cell.val_dataloader.batch_size": 4,
        "methods.mine.config": "configs/mudpt/mudpt_vit_b16.py",
        "study.methods": ["mine"],
    }
    study = load_study(path, options)
    assert (study.shots, study.selection["interval"]) == ([2], 2)
    assert study.cell["val_dataloader"] == dict(batch_size=4) and study.methods["mine"].trains


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            dict(cell=dict(optim_wraper=dict(type="A"))),
            "^cell.optim_wraper.type: the config has no optim_wraper; did you mean optim_w",
        ),
        (
            dict(cell=dict(train_cfg=dict(max_epoch=3))),
            "^cell.train_cfg.max_epoch: the config has no max_epoch; did you mean max_epo",
        ),
        (dict(cell=dict(optim_wrapper=dict(optimizer=dict(lr="high")))), "lr must be a number"),
        (
            dict(vary=dict(a=[{"optim_wraper.optimizer.lr": 1}])),
            "^optim_wraper.optimizer.lr: the config has no optim_wraper",
        ),
        (
            dict(methods=dict(coop=dict(settings={"train_cfg.max_epoch": 3}))),
            "^train_cfg.max_epoch: the config has no max_epoch; did you mean max_epochs",
        ),
        (dict(vary=dict(a=[{"optim_wrapper.optimizer.lr": "x3"}])), "lr must be a number, 0 or"),
        (
            dict(vary=dict(a=[{"optim_wrapper.optimizer": dict(type="SGD")}])),
            "study.vary: optim_wrapper.optimizer is {'type': 'SGD'}; vary its entries",
        ),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(write_study, tmp_path, keys, sentence):
    with pytest.raises(InputError, match=sentence):
        composed(write_study(**keys), tmp_path)


@pytest.mark.parametrize("where", ["cell", "method", "data", "vary"])
def test_the_seed_of_a_training_is_that_of_its_name(write_study, tmp_path, where):
    seed, data = {"randomness.seed": 3}, "configs/_base_/datasets/clip_clothing.py"
    keys = dict(
        cell=dict(cell=dict(randomness=dict(seed=3))),
        method=dict(names=[dict(name="coop", settings=seed)]),
        data=dict(data=[dict(config=data, settings=dict(coop=seed))]),
        vary=dict(vary=dict(a=[seed])),
    )
    composed(write_study(cell=dict(randomness=dict(per_sample=False))), tmp_path)
    with pytest.raises(InputError, match=r"randomness.seed would give .*: set study.seeds"):
        composed(write_study(**keys[where]), tmp_path)


def test_a_multiple_of_an_integer_is_one_where_it_can_be(write_study, tmp_path):
    size = "train_dataloader.batch_size"
    own = composed(write_study(), tmp_path)["train_dataloader"]["batch_size"]
    found = composed(write_study(vary=dict(a=[{size: "*2"}])), tmp_path)
    assert found["train_dataloader"]["batch_size"] == 2 * own
    assert type(found["train_dataloader"]["batch_size"]) is int
    with pytest.raises(InputError, match="batch_size must be a positive integer, got 9.6"):
        composed(write_study(vary=dict(a=[{size: "*0.3"}])), tmp_path)


def test_lists_may_be_varied(write_study, tmp_path):
    found = composed(
        write_study(vary=dict(a={"train_cfg.dynamic_intervals": [[[1, 2]]]})), tmp_path
    )
    assert found["train_cfg"]["dynamic_intervals"] == ((1, 2),)


def test_what_all_cells_get_may_replace_a_part_of_the_methods_config(write_study, tmp_path):
    optim_wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="SGD", lr=0.5))
    study = load_study(write_study(seeds=[1, 2], cell=dict(optim_wrapper=optim_wrapper)))
    for cell in study.cells()[1:]:
        config = compose(study, cell, tmp_path, lambda cfg: None)
        assert config["optim_wrapper"] == dict(
            type="OptimWrapper", optimizer=dict(type="SGD", lr=0.5)
        )
        assert config["default_hooks"]["checkpoint"]["type"]  # all else is as it was


def test_keys_with_dots_in_what_all_cells_get_stay_whole(write_study, tmp_path):
    rates = {"tuners.default": dict(lr_mult=0.1)}
    cell = dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys=rates)))
    found = composed(write_study(cell=cell), tmp_path)
    assert found["optim_wrapper"]["paramwise_cfg"]["custom_keys"] == rates


def test_a_wrapped_training_set_has_the_template_and_counts_what_it_repeats(write_study, tmp_path):
    (tmp_path / "data.py").write_text(
        f"_base_ = {str(REPOSITORY / 'configs/_base_/datasets/clip_clothing.py')!r}\n"
        "_inner = _base_.train_dataloader['dataset']\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2,"
        " dataset=_inner))\n"
    )
    data = [dict(name="clothing", config=str(tmp_path / "data.py"))]
    hooks = dict(default_hooks=dict(classes=dict(template="a sketch of a {}.")))
    study = load_study(write_study(["tip_adapter_f"], data=data, shots=[None], cell=hooks))
    (job,) = (each for each in prepare(study, tmp_path, DatasetCache()).jobs if each.trainable)
    assert job.config["train_dataloader"]["dataset"]["dataset"]["template"] == "a sketch of a {}."
    assert job.config["model"]["tuners"]["default"]["shots"] == 2 * 3


def test_a_cells_template_is_for_training_and_tests_of_every_method(write_study, tmp_path):
    own = "a photo of {}."
    hooks = dict(default_hooks=dict(classes=dict(template="a sketch of a {}.")))
    (tmp_path / "mine.py").write_text(
        f"_base_ = {str(REPOSITORY / 'configs/clip_baselines/vpt_vit_b16.py')!r}\n"
        f"default_hooks = dict(classes=dict(template={own!r}))\n"
    )
    methods = dict(mine=dict(config=str(tmp_path / "mine.py")))
    names = ["mine", "zero_shot_ensemble"]
    for cell, expected in (({}, own), (hooks, "a sketch of a {}.")):
        study = load_study(write_study(names, methods, cell=cell))
        plain, ensemble, mine = (
            compose(study, each, tmp_path, lambda data: 4) for each in study.cells()
        )
        for role in ("train", "val", "test"):
            assert mine[f"{role}_dataloader"]["dataset"]["template"] == expected
        assert plain["test_dataloader"]["dataset"].get("template") == (expected if cell else None)
        assert len(ensemble["test_dataloader"]["dataset"]["template"]) > 1


def test_hooks_that_change_a_training_belong_to_its_result(write_study, tmp_path):
    def digest(**cell):
        study = load_study(write_study(["vpt"], cell=cell))
        return prepare(study, tmp_path, DatasetCache()).jobs[-1].digest

    def hooks(**changed):
        return digest(default_hooks=changed)

    plain = digest()
    assert hooks(logger=dict(interval=7), timer=None) == plain
    assert hooks(classes=dict(template="a sketch of a {}.")) != plain
    assert hooks(param_scheduler=None) != plain
    assert hooks(mine=dict(type="EMAHook")) != plain
    assert hooks(checkpoint=dict(save_best="accuracy/top1")) != plain
    assert digest(auto_scale_lr=dict(enable=True, base_batch_size=8)) != plain
