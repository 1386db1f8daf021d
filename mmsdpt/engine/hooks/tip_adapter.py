"""Fill the cache of Tip-Adapter and search alpha and beta."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmsdpt.engine.sample_seeds import SampleIndex, SeededFetch
from mmsdpt.engine.state import model_facts, stopped_early
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import HOOKS
from mmsdpt.tuners.files import save_tuner
from mmsdpt.utils.data_files import innermost_datasets

_FIRST_PASS = 1_000_000  # epoch number for sample seeds that no training uses


@HOOKS.register_module()
class TipAdapterHook(Hook):
    """For :class:`mmsdpt.TipAdapter` (Zhang et al., ECCV 2022).

    Before training (or before a test without a tuner file, if nothing trains) every training image
    is added to the cache, as the mean of its features over several augmented passes. At the end of
    training, or after filling the cache, alpha and beta are searched on the validation images, even
    if the run does not validate; test images are never used. Without validation images both keep
    their values. Tuners in other slots act as usual, in their current state.

    Args:
        passes: Passes over the training images.
        most: Maximum beta and alpha of the search.
        slot: The tuner's slot.
    """

    reads_validation_images: ClassVar[bool] = True
    """Whether the result depends on the validation images of a run that does not validate."""

    def __init__(
        self, passes: int = 10, most: tuple[float, float] = (7.0, 3.0), slot: str = "default"
    ) -> None:
        self.passes, self.most, self.slot = passes, (float(most[0]), float(most[1])), slot

    def before_train(self, runner: Runner) -> None:
        if runner.host._slot(self.slot).is_empty:  # else a checkpoint or tuner file has the keys
            self._fill(runner, runner.train_dataloader)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        # Not after the epoch: a loop over iterations writes its last checkpoint before that.
        if runner.iter + 1 == runner.max_iters:
            self._search(runner, runner.val_loop and runner.val_dataloader)

    def after_train(self, runner: Runner) -> None:
        if stopped_early(runner.train_loop):  # its last checkpoint comes after this
            self._search(runner, runner.val_loop and runner.val_dataloader)

    def fills_for_test(self, host: nn.Module) -> bool:
        """Whether a test fills the cache: nothing trains, and no file was loaded."""
        tuner = host._slot(self.slot)
        return tuner.frozen and tuner.is_empty

    def before_test(self, runner: Runner) -> None:
        if not runner.host._slot(self.slot).enabled or not self.fills_for_test(runner.host):
            return
        loader = runner.build_dataloader(runner.cfg.train_dataloader)
        self._fill(runner, loader)
        self._search(runner)
        facts = model_facts(runner.cfg, runner.host, next(innermost_datasets(loader.dataset)))
        path = Path(runner.work_dir) / "tuner.safetensors"
        save_tuner(runner.host, path, self.slot, facts=facts)
        runner.logger.info(f"Wrote the cache to {path}")

    def _fill(self, runner: Runner, loader: DataLoader) -> None:
        host, dataset = runner.host, loader.dataset
        dataset.__getitems__ = SeededFetch(dataset)
        total: Tensor | None = None
        for number in range(self.passes):
            order = []
            for i in range(len(dataset)):
                order.append(SampleIndex(i))
                order[i].seed = (runner.seed or 0, _FIRST_PASS + number, i)
            parts = []
            for images, labels in _batches(host, loader, order):
                state = ForwardState(images=images)
                with torch.no_grad():
                    host.encode_image(images, state)
                parts.append((state.pooled_image, labels))
            features = torch.cat([part[0] for part in parts])
            total = features if total is None else total + features
        assert total is not None
        labels = torch.cat([part[1] for part in parts])
        tuner = host._slot(self.slot)
        tuner.fill(total / self.passes, labels, dataset.metainfo["classes"])
        runner.logger.info(f"Tip-Adapter: {len(labels)} images in the cache")

    def _search(self, runner: Runner, loader: DataLoader | None = None) -> None:
        host, tuner = runner.host, runner.host._slot(self.slot)
        settings = runner.cfg.get("val_dataloader")
        if loader is None and settings:
            loader = runner.build_dataloader(settings)
        if loader is None:
            runner.logger.warning(
                "Tip-Adapter: there are no validation images, so alpha and beta keep their values"
            )
            return
        names, templates = host.class_names, host.templates
        parts = []
        try:
            host.set_classes(tuner.trained_classes)
            with torch.no_grad(), host.tuners_off(self.slot):
                for images, labels in _batches(host, loader, range(len(loader.dataset))):
                    state = host._classify(images, None)
                    parts.append((state.image_features, state.logits, labels))
        finally:
            host.set_classes(names, templates)
        accuracy = tuner.search(*map(torch.cat, zip(*parts, strict=True)), self.most)
        alpha, beta = tuner.strengths.tolist()
        runner.logger.info(
            f"Tip-Adapter: alpha {alpha:.3g} and beta {beta:.3g} are best on the validation images"
            f" ({100 * accuracy:.1f} %)"
        )


def _batches(host: nn.Module, loader: DataLoader, order) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels in a given order, with the model in eval mode."""
    host.eval()
    batches = DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=order,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
    )
    for batch in batches:
        data = host.data_preprocessor(batch, False)
        labels = torch.cat([sample.gt_label for sample in data["data_samples"]])
        yield data["images"], labels.to(data["images"].device)
