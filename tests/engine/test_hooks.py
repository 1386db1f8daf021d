"""What is checked and said before the first step, and phases that take turns."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmsdpt.engine.hooks import AlternatingPhasesHook, ClassNamesHook, TrainableTableHook
from mmsdpt.engine.hooks.class_names import check_names_reach_the_model
from mmsdpt.engine.hooks.trainable_table import trainable_table
from mmsdpt.tuners import Tuner
from mmsdpt.utils.errors import InputError

KEYS = ("img_id", "text", "custom_entities")


class Model(nn.Module):
    """A frozen layer of 6 + 3 parameters and a trained one of 4."""

    def __init__(self):
        super().__init__()
        self.host = nn.Linear(2, 3).requires_grad_(False)
        self.tuners = nn.ModuleDict(dict(default=nn.Bilinear(2, 2, 1, bias=False)))


def a_runner(model, parameters=None, **others):
    logged = []
    return SimpleNamespace(
        model=model,
        optim_wrapper=torch.optim.SGD(
            list(model.parameters()) if parameters is None else parameters, lr=0.1
        ),
        logger=SimpleNamespace(info=logged.append),
        logged=logged,
        **others,
    )


def test_the_table_lists_what_trains_and_the_total():
    table = trainable_table(Model())
    row = next(line for line in table.splitlines() if "tuners.default.weight" in line)
    assert row.split()[3] == "1" and row.split()[5] == "4"
    assert "30.7692% of 13" in table and "host" not in table


def test_a_run_in_which_nothing_trains_is_refused():
    runner = a_runner(Model().requires_grad_(False))
    with pytest.raises(ValueError, match="nothing would train"):
        TrainableTableHook().before_train(runner)


def test_an_optimizer_that_misses_a_trainable_parameter_is_refused():
    model = Model()
    runner = a_runner(model, list(model.tuners.parameters()))
    TrainableTableHook().before_train(runner)
    model.host.requires_grad_(True)
    with pytest.raises(ValueError, match="lacks 2 trainable parameters.* host.weight"):
        TrainableTableHook().before_train(runner)


class Scale(Tuner):
    """A method of which a part may be frozen."""

    def __init__(self, whole: bool, **common) -> None:
        super().__init__(seams={}, **common)
        self.scale = nn.Parameter(torch.ones(3))
        self.shift = nn.Parameter(torch.ones(1), requires_grad=whole)


@pytest.mark.parametrize("whole", [True, False])
def test_a_tuner_that_is_partly_frozen_is_refused(whole):
    model = Model()
    model.tuners["other"] = Scale(whole)
    runner = a_runner(model)
    if whole:
        TrainableTableHook().before_train(runner)
        assert "tuners.other.scale" in runner.logged[0]
    else:
        with pytest.raises(ValueError, match="Scale in slot 'other' should train 4 .* but 3 train"):
            TrainableTableHook().before_train(runner)
        model.tuners["other"].frozen = True
        TrainableTableHook().before_train(runner)


# ------------------------------------------------------------------ phases


class Phased(nn.Module):
    """A tuner that records its phases."""

    def __init__(self):
        super().__init__()
        self.phases = []

    def set_phase(self, *sides):
        if set(sides) - {"image", "text"}:
            raise ValueError(f"sides must be image and text, got {sides}")
        self.phases.append(sides)


def phased_runner(tuner, accumulated=1, **others):
    model = nn.Module()
    model._slot = {"default": tuner, "second": tuner}.__getitem__
    wrapper = SimpleNamespace(_accumulative_counts=accumulated)
    return SimpleNamespace(model=model, optim_wrapper=wrapper, **others)


@pytest.mark.parametrize(
    ("settings", "accumulated", "counter", "expected"),
    [
        (dict(), 1, "iter", "ititit"),
        (dict(interval=2), 1, "iter", "iittii"),
        (dict(), 2, "iter", "iittii"),  # gradients of two iterations are one step
        (dict(interval=2, phases=("text", "image"), by_epoch=True), 2, "epoch", "ttiitt"),
    ],
)
def test_phases_take_turns_by_the_counter_alone(settings, accumulated, counter, expected):
    for start in (0, 3):  # from the beginning, and resumed
        tuner = Phased()
        runner = phased_runner(tuner, accumulated, iter=0, epoch=0)
        hook = AlternatingPhasesHook(**settings)
        hook.before_train(runner)
        del tuner.phases[:]
        for count in range(start, 6):
            setattr(runner, counter, count)
            hook.before_train_iter(runner, batch_idx=0)
        assert "".join(sides[0][0] for sides in tuner.phases) == expected[start:]
        hook.after_train(runner)
        assert tuner.phases[-1] == ()  # both again


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(interval=0), "interval must be at least 1"),
        (dict(phases=("image",)), "at least two phases"),
    ],
)
def test_phases_that_do_not_alternate_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        AlternatingPhasesHook(**settings)


def test_phases_that_the_tuner_does_not_have_are_refused_before_training():
    with pytest.raises(ValueError, match="sides must be image and text"):
        AlternatingPhasesHook(phases=("image", "both")).before_train(phased_runner(Phased()))
    with pytest.raises(ValueError, match="Linear in slot 'second' has no phases"):
        AlternatingPhasesHook(slot="second").before_train(phased_runner(nn.Linear(1, 1)))


# ------------------------------------------------------------------ class names


class PackDetInputs:
    """Stands for MMDetection's transform of this name."""

    def __init__(self, meta_keys):
        self.meta_keys = meta_keys


def a_dataset(return_classes=True, meta_keys=KEYS):
    pipeline = SimpleNamespace(transforms=[object(), PackDetInputs(meta_keys)])
    return SimpleNamespace(return_classes=return_classes, pipeline=pipeline)


WRAPPERS = {
    "plain": lambda inner: inner,
    "wrapped": lambda inner: SimpleNamespace(dataset=SimpleNamespace(dataset=inner)),
    "concatenated": lambda inner: SimpleNamespace(datasets=[a_dataset(), inner]),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_datasets_that_keep_their_class_names_to_themselves_are_refused(wrap):
    check_names_reach_the_model(wrap(a_dataset()), "train")
    with pytest.raises(InputError, match="the train dataset .*set return_classes=True"):
        check_names_reach_the_model(wrap(a_dataset(return_classes=False)), "train")
    with pytest.raises(InputError, match="PackDetInputs of the val dataset drops text and custom_"):
        check_names_reach_the_model(wrap(a_dataset(meta_keys=("img_id",))), "val")
    with pytest.raises(InputError, match="drops custom_entities: add"):
        check_names_reach_the_model(wrap(a_dataset(meta_keys=("text",))), "val")


def test_caption_prompts_that_would_not_act_are_refused():
    def check(prompts, keys=(*KEYS, "caption_prompt")):
        dataset = a_dataset(meta_keys=keys)
        dataset.caption_prompt, dataset.metainfo = prompts, dict(classes=("traffic_light", "cat"))
        check_names_reach_the_model(dataset, "test")

    check(None, KEYS)
    check({"traffic light": dict(prefix="a "), "cat": dict(name="tom", suffix=" asleep")})
    check({"traffic_light": dict(prefix="a ")})
    with pytest.raises(InputError, match="PackDetInputs of the test dataset drops caption_prompt"):
        check({"cat": dict(prefix="a ")}, KEYS)
    with pytest.raises(InputError, match="has 'cta', which is not one of its classes .*'cat'"):
        check({"cta": dict(prefix="a ")})
    for words in (dict(prefx="a "), "a cat"):
        with pytest.raises(InputError, match="for 'cat'; expected dict.prefix=..., name"):
            check({"cat": words})


def test_class_names_are_checked_before_training_validation_and_testing():
    def loader(**kwargs):
        return SimpleNamespace(dataset=a_dataset(**kwargs))

    good, bad = loader(), loader(return_classes=False)
    hook = ClassNamesHook()
    hook.before_train(SimpleNamespace(train_dataloader=good, val_dataloader=bad, val_loop=None))
    with pytest.raises(InputError, match="the val dataset"):
        hook.before_train(
            SimpleNamespace(train_dataloader=good, val_dataloader=bad, val_loop=object())
        )
    with pytest.raises(InputError, match="the val dataset"):
        hook.before_val(SimpleNamespace(val_dataloader=bad))
    with pytest.raises(InputError, match="the test dataset"):
        hook.before_test(SimpleNamespace(test_dataloader=bad))


def test_parameters_of_a_captions_positions_are_warned_of_under_another_caption():
    tuner = SimpleNamespace(
        enabled=True, own_words_only=False, frozen=False, trained_classes=("cat", "dog")
    )
    told = []
    dataset = a_dataset()
    runner = SimpleNamespace(
        model=SimpleNamespace(tuners=dict(default=tuner)),
        logger=SimpleNamespace(warning=told.append),
        test_dataloader=SimpleNamespace(dataset=dataset),
    )
    for names, count in ((("cat", "dog"), 0), (("dog", "cat"), 1)):
        dataset.metainfo = dict(classes=names)
        ClassNamesHook().before_test(runner)
        assert len(told) == count
    assert "for the caption of cat, dog, but the test dataset has the caption dog, cat" in told[0]
