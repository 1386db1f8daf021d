"""Promises of SetClassesHook: the model compares images with the classes of the data in use."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mmsdpt.engine.hooks import SetClassesHook
from mmsdpt.utils.errors import InputError

TRAIN, VAL, TEST = ("cat", "dog"), ("horse",), ("cow", "hen", "pig")


class Model:
    """Remembers what it was told."""

    def set_classes(self, names, template=None) -> None:
        self.told = (names, template)


def make_runner(**metainfo) -> SimpleNamespace:
    def loader(classes):
        return SimpleNamespace(
            dataset=SimpleNamespace(metainfo=dict(metainfo, **(dict(classes=classes))))
        )

    return SimpleNamespace(
        model=Model(),
        train_dataloader=loader(TRAIN),
        val_dataloader=loader(VAL),
        test_dataloader=loader(TEST),
    )


def test_each_phase_has_its_own_classes_and_training_gets_its_own_back():
    hook, runner = SetClassesHook(), make_runner(template="a drawing of a {}.")
    told = []
    for phase in ("before_train", "before_val", "after_val", "after_train", "before_test"):
        getattr(hook, phase)(runner)
        told.append(runner.model.told)
    assert [names for names, _ in told] == [TRAIN, VAL, TRAIN, TRAIN, TEST]
    assert {template for _, template in told} == {"a drawing of a {}."}


def test_a_validation_on_its_own_keeps_its_classes():
    """Nothing but the val loader may be built then."""
    hook, runner = SetClassesHook(), make_runner()
    del runner.train_dataloader
    hook.before_val(runner)
    hook.after_val(runner)
    assert runner.model.told == (VAL, None)


def test_a_template_of_the_hook_takes_the_place_of_the_datasets():
    runner = make_runner(template="a drawing of a {}.")
    SetClassesHook(template="a photo of a {}.").before_test(runner)
    assert runner.model.told == (TEST, "a photo of a {}.")


def test_a_dataset_without_class_names_is_refused():
    runner = make_runner()
    runner.test_dataloader.dataset.metainfo.pop("classes")
    with pytest.raises(InputError, match="the test dataset SimpleNamespace has no class names"):
        SetClassesHook().before_test(runner)


def test_images_of_another_size_than_the_models_are_warned_of_once():
    hook, runner = SetClassesHook(), make_runner()
    told = []
    runner.logger = SimpleNamespace(warning=told.append)
    runner.model.visual = SimpleNamespace(img_size=(64, 64))
    for role, size, count in (
        *(("train", 64, 0), ("train", 224, 1), ("val", 224, 1), ("test", 224, 1)),
        ("test", 96, 2),
    ):
        getattr(runner, f"{role}_dataloader").dataset.image_size = size
        getattr(hook, f"before_{role}")(runner)
        assert len(told) == count
    assert "The train images have 224 pixels, but the model was trained with 64" in told[0]
    assert "The test images have 96 pixels" in told[1]
