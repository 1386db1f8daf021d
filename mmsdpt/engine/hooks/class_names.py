"""Check before the first batch that class names reach the text-conditioned detector."""

from __future__ import annotations

from collections.abc import Mapping

from mmdet.evaluation import MultiDatasetsEvaluator
from mmdet.models.detectors.glip import clean_label_name
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmsdpt.registry import HOOKS
from mmsdpt.utils.data_files import all_classes, class_lists, innermost_datasets
from mmsdpt.utils.errors import InputError, listed

_META_KEYS = ("text", "custom_entities")
_PROMPT_KEYS = {"prefix", "name", "suffix"}


def check_names_reach_the_model(dataset, role: str) -> None:
    """Check that a detection dataset passes its class names and caption prompts to the model.

    Args:
        role: ``train``, ``val`` or ``test``, for the message.

    Raises:
        InputError: naming the missing setting, or a caption prompt that would have no effect.
    """
    for inner in innermost_datasets(dataset):
        if getattr(inner, "return_classes", True) is False:
            raise InputError(
                f"the {role} dataset {type(inner).__name__} does not return its class names: set"
                " return_classes=True on it"
            )
        prompts = getattr(inner, "caption_prompt", None) or {}
        _check_pipeline(inner, (*_META_KEYS, "caption_prompt") if prompts else _META_KEYS, role)
        _check_prompts(prompts, getattr(inner, "metainfo", {}).get("classes", ()), role)


def _check_prompts(prompts: Mapping, classes: tuple[str, ...], role: str) -> None:
    known = set(map(clean_label_name, classes))
    for name, words in prompts.items():
        if clean_label_name(name) not in known:
            raise InputError(
                f"caption_prompt of the {role} dataset has {name!r}, which is not one of its"
                f" classes ({listed(map(repr, classes))}): use the class name"
            )
        if not isinstance(words, Mapping) or not words.keys() <= _PROMPT_KEYS:
            raise InputError(
                f"caption_prompt of the {role} dataset has {words!r} for {name!r}; expected"
                " dict(prefix=..., name=..., suffix=...), with any of these keys"
            )


def _check_pipeline(inner, keys: tuple[str, ...], role: str) -> None:
    for transform in getattr(getattr(inner, "pipeline", None), "transforms", ()):
        if type(transform).__name__ == "PackDetInputs":
            missing = [key for key in keys if key not in transform.meta_keys]
            if missing:
                raise InputError(
                    f"PackDetInputs of the {role} dataset drops {' and '.join(missing)}: add them"
                    " to its meta_keys"
                )


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Check datasets (:func:`check_names_reach_the_model`) at the start of training, validation and
    testing, and that the model can distinguish their classes.

    Args:
        strict: Whether classes with the same text are an error. False: warn, for public class
            lists that cannot be changed (LVIS has a few such classes).
    """

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict

    def _check(self, runner: Runner, dataset, role: str) -> None:
        check_names_reach_the_model(dataset, role)
        lists, names = class_lists(dataset), all_classes(dataset)
        if not names:
            return
        several = len(lists) > 1 and role != "train"
        if several and not isinstance(getattr(runner, f"{role}_evaluator"), MultiDatasetsEvaluator):
            raise InputError(
                f"the {role} dataset joins data of {len(lists)} class lists, which no single metric"
                f" supports: set {role}_evaluator to a MultiDatasetsEvaluator with a metric for"
                " each, or test each separately"
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if hasattr(model, "check_class_names"):
            for each in lists:
                model.check_class_names(each, f"the {role} dataset", self.strict)
        for slot, tuner in getattr(model, "tuners", {}).items():
            if tuner.own_words_only and role == "train" and not tuner.frozen:
                tuner.trained_classes = names
            if tuner.enabled and tuner.own_words_only:
                own = sum(model.trained_on(slot, names))
                runner.logger.info(
                    f"Slot {slot} only affects words that it was trained on: {own} of the"
                    f" {len(names)} classes of the {role} dataset"
                )
            elif tuner.enabled and tuner.trained_classes not in ((), names):
                runner.logger.warning(
                    f"Slot {slot} was trained for the caption of"
                    f" {', '.join(tuner.trained_classes)}, but the {role} dataset has the caption"
                    f" {', '.join(names)}: its parameters apply to other words there"
                )

    def before_train(self, runner: Runner) -> None:
        self._check(runner, runner.train_dataloader.dataset, "train")
        if runner.val_loop is not None:
            self._check(runner, runner.val_dataloader.dataset, "val")

    def before_val(self, runner: Runner) -> None:
        self._check(runner, runner.val_dataloader.dataset, "val")

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader.dataset, "test")
