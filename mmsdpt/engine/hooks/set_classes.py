"""Pass class names from the dataset to a classifier."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmsdpt.registry import HOOKS
from mmsdpt.utils.errors import InputError


@HOOKS.register_module()
class SetClassesHook(Hook):
    """Pass the classes of the current dataset to the model, and its template if it has one.

    Training, validation and testing may have different classes (base and new ones, another
    dataset); after a validation those of training are restored. Images of another size than the
    model's cause a warning.

    Args:
        template: Sentence, or several, to use instead of the datasets'.

    Raises:
        InputError: at the start of a phase, if the dataset has no class names.
    """

    priority = "VERY_HIGH"

    def __init__(self, template: str | Sequence[str] | None = None) -> None:
        self.template = template
        self._is_training = False
        self._said: set[int] = set()  # sizes of images that were warned of

    def before_train(self, runner: Runner) -> None:
        self._is_training = True
        self._set_classes(runner, runner.train_dataloader, "train")

    def after_train(self, runner: Runner) -> None:
        self._is_training = False

    def before_val(self, runner: Runner) -> None:
        self._set_classes(runner, runner.val_dataloader, "val")

    def after_val(self, runner: Runner) -> None:
        if self._is_training:
            self._set_classes(runner, runner.train_dataloader, "train")

    def before_test(self, runner: Runner) -> None:
        self._set_classes(runner, runner.test_dataloader, "test")

    def _set_classes(self, runner: Runner, loader: DataLoader, role: str) -> None:
        metainfo = getattr(loader.dataset, "metainfo", {})
        names = metainfo.get("classes")
        if not names:
            raise InputError(
                f"the {role} dataset {type(loader.dataset).__name__} has no class names, but the"
                " model compares images with them: set metainfo=dict(classes=[...]) on it"
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.set_classes(names, self.template or metainfo.get("template"))
        size = getattr(loader.dataset, "image_size", None)
        own = getattr(getattr(model, "visual", None), "img_size", None)
        if size is None or own is None or tuple(own) == (size, size) or size in self._said:
            return
        self._said.add(size)
        runner.logger.warning(
            f"The {role} images have {size} pixels, but the model was trained with {own[0]}: its"
            f" position embeddings are interpolated; set image_size={own[0]} on the dataset to"
            " avoid this"
        )
