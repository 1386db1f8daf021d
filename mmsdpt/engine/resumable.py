"""MMEngine's runner with small, safe, exact checkpoints."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmsdpt.tuners.files import (
    describe_tuners,
    differences,
    kind,
    remember_classes,
    tuner_differences,
)
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.base_weights import CheckpointError, read_checkpoint
from mmsdpt.utils.data_files import all_classes
from mmsdpt.utils.errors import DivergedError, listed
from mmsdpt.utils.fingerprint import base_fingerprint
from mmsdpt.version import __version__

from .checkpoint_checks import check_contents, check_resumable
from .state import (
    pack_messages,
    parameters_of,
    progress,
    random_state,
    run_settings,
    trained_state,
    tuner_files,
    unpack_messages,
)

RUN_CHECKPOINT = "mmsdpt_run"
LAST_CHECKPOINT = "last_checkpoint"
# Settings that a resumed run has from its checkpoint; it takes all others from the config.
_RESTORED: tuple[str, ...] = (
    "optim_wrapper.optimizer.",
    "optim_wrapper.paramwise_cfg",
    "param_scheduler.",
)


class ResumableRunner(Runner):
    """A runner whose checkpoints hold the trainable parameters, optimizer, schedules, log and
    random state. They are written atomically and read without unpickling objects. A resumed run
    loads its checkpoint *on top of* the base weights, which are not in it.
    """

    resumed_from: str | None = None  # checkpoint
    resumed_random_states: list[dict] | None = None
    # From the resumed run, not from the config.
    _kept_settings: Mapping[str, Any] = MappingProxyType({})

    @property
    def host(self) -> nn.Module:
        """The model without its distributed wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    # ------------------------------------------------------------------ loading

    def _latest_checkpoint(self) -> str | None:
        pointer = Path(self.work_dir) / LAST_CHECKPOINT
        if not pointer.is_file():
            return None
        text = pointer.read_text(errors="replace").strip()
        if not text:  # see point_to_this_run
            return None
        recorded = Path(text)
        # The work directory may have been moved or copied.
        for path in (Path(self.work_dir) / recorded.name, recorded):
            if path.is_file():
                return str(path)
        raise CheckpointError(
            f"{pointer} names {recorded}, which does not exist: delete {pointer} to start a new run"
        )

    def load_checkpoint(
        self, filename: str, map_location="cpu", strict: bool = True, revise_keys=None
    ) -> dict:
        """Load the trained part of a run's checkpoint; the base weights stay as they are."""
        if not Path(filename).is_file():
            raise CheckpointError(f"checkpoint not found: {filename}")
        if filename.endswith(".safetensors"):
            raise CheckpointError(
                f"{filename} is not a checkpoint of an mmsdpt run, which ends in .pth: set base"
                " weights as load_from; a tuner file has no optimizer state, but can start a new"
                f" run with --cfg-options tuner_files.default={filename}"
            )
        checkpoint = read_checkpoint(str(filename), map_location="cpu")
        self._check_belongs(filename, checkpoint)
        checkpoint["message_hub"] = unpack_messages(checkpoint["message_hub"])
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self.host.load_state_dict(checkpoint["state_dict"], strict=False)
        meta = checkpoint["meta"]
        for slot, tuner in getattr(self.host, "tuners", {}).items():
            tuner.adopt(meta["tuners"][slot]["config"])
            # A tuner without stored classes (from an older version) has the classes of the data.
            others = tuner.trained_classes if tuner.frozen else _classes_of_data(meta)
            remember_classes(tuner, meta.get("trained_classes", {}).get(slot) or others)
        self.resumed_random_states = checkpoint["random_states"]
        self.logger.info(f"Loaded {filename}")
        return checkpoint

    def _check_belongs(self, filename: str, checkpoint: dict) -> None:
        """Refuse checkpoints of another kind of run, or with other base weights."""
        meta = checkpoint.get("meta")
        if not isinstance(meta, dict) or meta.get(RUN_CHECKPOINT) is None:
            raise CheckpointError(
                f"{filename} is not a checkpoint of an mmsdpt run; set base weights as load_from;"
                " tuner files end in .safetensors"
            )
        check_contents(checkpoint, filename)
        found = {name: kind(value) for name, value in checkpoint["state_dict"].items()}
        expected = {name: kind(value) for name, value in trained_state(self.host).items()}
        different = tuner_differences(self.host, meta.get("tuners")) or differences(found, expected)
        if different:
            raise CheckpointError(
                f"{filename} is from a run that trained other parameters: {different}"
            )
        if meta.get("base") != self._fingerprint_of_frozen():
            raise CheckpointError(
                f"{filename} is from a run on other base weights: use the same checkpoint"
                " with load_from"
            )

    def _fingerprint_of_frozen(self) -> str | None:
        """Fingerprint of the frozen base weights; None if all of them train."""
        if all(p.requires_grad for p in self.host.parameters()):
            return None
        return base_fingerprint(self.host, frozen_only=True)

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location="cpu",
    ) -> None:
        """Continue the run that wrote ``filename``: weights, optimizer, schedules, log, random
        state. Arguments as in MMEngine, whose method would execute a config in the file.

        Raises:
            CheckpointError: if a part of the file is missing, damaged or does not fit.
        """
        checkpoint = self.load_checkpoint(filename)
        meta = checkpoint["meta"]
        self._check_classes(filename, meta)
        self._check_optimizer(filename, meta)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
            checkpoint["param_schedulers"] = self._with_later_schedules(
                checkpoint.get("param_schedulers"), meta
            )
        check_resumable(checkpoint, filename, self.optim_wrapper, self.param_schedulers)
        self._say_what_is_ignored(checkpoint)
        self.train_loop._epoch, self.train_loop._iter = meta["epoch"], meta["iter"]
        self._check_position()
        self._take_over_seed(meta.get("seed"))
        self.message_hub.load_state_dict(checkpoint["message_hub"])
        self._find_best_checkpoints(filename)
        if resume_optimizer:
            self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
            self._restore_gradients(checkpoint.get("gradients"), meta)
        if resume_param_scheduler and self.param_schedulers is not None:
            found = checkpoint["param_schedulers"]
            for scheduler, state in zip(self.param_schedulers, found, strict=True):
                scheduler.load_state_dict(state)
            self._begin_later_schedules(meta)
        self._has_loaded = True
        self.resumed_from = os.path.abspath(filename)
        self.logger.info(f"Resumed at epoch {self.epoch}, iteration {self.iter}")
        done, end = progress(self.train_loop)
        if done >= end:
            self.logger.warning(
                "The run is already finished; to train longer, increase train_cfg.max_epochs or"
                " max_iters"
            )

    def _restore_gradients(
        self, found: list[dict[int, torch.Tensor]] | None, meta: Mapping
    ) -> None:
        """Restore the gradients of an unfinished optimizer step, or warn that they are lost."""
        if found and len(found) == self.world_size:
            parameters = parameters_of(self.optim_wrapper)
            for i, gradient in found[self.rank].items():
                parameters[i].grad = gradient.to(parameters[i].device)
            return
        done, end = progress(self.train_loop)
        # The last step of a finished run, which is now longer, takes what there is.
        unit = "epochs" if isinstance(self.train_loop, EpochBasedTrainLoop) else "iters"
        finished = done == (meta.get("settings") or {}).get(f"train_cfg.max_{unit}")
        if self.iter % self.optim_wrapper._accumulative_counts and done < end and not finished:
            self.logger.warning(
                "The checkpoint was written between two optimizer steps"
                " (optim_wrapper.accumulative_counts) and has no gradients for this number of"
                " processes: the accumulated gradients are lost"
            )

    def _check_position(self) -> None:
        """Warn if the number of iterations is not a whole number of epochs."""
        loop = self.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            return
        whole = loop.epoch * len(loop.dataloader)
        if loop.iter != whole:
            self.logger.warning(
                f"The checkpoint was written after {loop.iter} iterations, but {loop.epoch} epochs"
                f" with the current data and batch size are {whole}: epoch"
                f" {loop.epoch + 1} starts from its first image, and schedules by iteration"
                f" continue from iteration {loop.iter}"
            )

    def _with_later_schedules(self, found: Any, meta: Mapping) -> Any:
        """The schedules of a checkpoint, with the current state of those that it left out because
        they begin after the planned end of the earlier run.
        """
        before = (meta.get("settings") or {}).get("train_cfg.max_epochs")
        own = self.param_schedulers
        if not isinstance(found, list) or type(before) is not int:
            return found
        ends = {True: before, False: before * len(self.train_dataloader)}
        later = [scheduler.begin >= ends[scheduler.by_epoch] for scheduler in own]
        if len(found) != len(own) - sum(later):
            return found
        states = iter(found)
        return [
            scheduler.state_dict() if is_later else next(states)
            for scheduler, is_later in zip(own, later, strict=True)
        ]

    def _begin_later_schedules(self, meta: Mapping) -> None:
        """Advance the schedules that were left out to the current position."""
        for scheduler in self.param_schedulers:
            done = meta["epoch" if scheduler.by_epoch else "iter"]
            if scheduler._global_step == 0 and done:
                scheduler._global_step = done - 1
                with warnings.catch_warnings():  # MMEngine warns about the order of the first steps
                    warnings.simplefilter("ignore")
                    scheduler.step()

    def _check_classes(self, filename: str, meta: dict) -> None:
        """Refuse a run on other classes, because its labels would get wrong names."""
        before = _classes_of_data(meta)
        now = all_classes(self.train_dataloader.dataset)
        if before is not None and now and list(before) != list(now):
            raise CheckpointError(
                f"{filename} is from a run on other classes or in another order: {listed(before)};"
                f" the config's data has {listed(now)}"
            )

    def _check_optimizer(self, filename: str, meta: dict) -> None:
        """Refuse the state of another optimizer, which this one cannot use."""
        name = "optim_wrapper.optimizer.type"
        before, now = (meta.get("settings") or {}).get(name), run_settings(self.cfg).get(name)
        if before is not None and before != now:
            raise CheckpointError(
                f"{filename} has the state of {before}, but the config's optimizer is {now}: to"
                " use it, start a new run from the trained tuner, without --resume, with"
                f" --work-dir ANOTHER_FOLDER --cfg-options {self._as_tuner_files()}"
            )

    def _say_what_is_ignored(self, checkpoint: dict) -> None:
        """Log which changed settings a resumed run takes from the config, and which it ignores."""
        before, now = dict(checkpoint["meta"].get("settings") or {}), run_settings(self.cfg)
        restored = _RESTORED
        if "loss_scaler" in checkpoint["optimizer"]:
            restored += ("optim_wrapper.loss_scale",)
        kept, taken, ignored = {}, [], []
        for name in sorted(x for x in {*before, *now} if before.get(x) != now.get(x)):
            told = _difference(name, now.get(name), before.get(name))
            if name.startswith(restored):
                kept[name] = before.get(name)
                ignored.append(told)
            else:
                taken.append(told)
        ignored += self._changed_lengths(checkpoint.get("param_schedulers"))
        if not any(name.startswith("optim_wrapper.") for name in kept):
            ignored += self._changed_rate(checkpoint["optimizer"].get("param_groups", ()))
        self._kept_settings = kept
        if taken:
            self.logger.info(f"Resuming with changed settings: {'; '.join(taken)}")
        if ignored:
            self.logger.warning(
                f"A resumed run keeps its optimizer and schedules; ignored: {'; '.join(ignored)}."
                " To use these settings, start a new run from the trained tuner, without --resume,"
                f" with --work-dir ANOTHER_FOLDER --cfg-options {self._as_tuner_files()}"
            )

    def _as_tuner_files(self) -> str:
        """The option that starts a run from the tuner files of this one."""
        files = tuner_files(self.host, self.work_dir)
        return " ".join(f"tuner_files.{slot}={path}" for slot, path in files.items())

    def _changed_lengths(self, found: Any) -> list[str]:
        """Lengths of schedules that depend on a changed number of epochs."""
        if not self.param_schedulers:
            return []
        pairs = zip(self.param_schedulers, found, strict=True)
        return [
            _difference(f"param_scheduler.{i}.{key}", now[key], before.get(key))
            for i, (now, before) in enumerate((own.state_dict(), state) for own, state in pairs)
            for key in ("T_max", "end", "total_iters")
            if key in now and now[key] != before.get(key)
        ]

    def _changed_rate(self, found: Sequence[Mapping]) -> list[str]:
        """The learning rate of auto_scale_lr if batch size or number of processes changed."""
        key = "initial_lr"
        for own, before in zip(self.optim_wrapper.param_groups, found, strict=False):
            if key in own and key in before and own[key] != before[key]:
                return [_difference("lr by auto_scale_lr", own[key], before[key])]
        return []

    def _take_over_seed(self, seed: int | None) -> None:
        before = self.seed
        if seed is None or seed == before:
            return
        if self._randomness_cfg.get("seed") is not None:
            self.logger.warning(f"The run has seed {seed}; the config's {before} is ignored")
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)
        loader = self.train_dataloader
        for owner in (loader, loader.batch_sampler):
            sampler = getattr(owner, "sampler", None)
            if getattr(sampler, "seed", None) == before:
                # It was built with this process's seed, before the run's seed was known.
                sampler.seed = self.seed

    def _find_best_checkpoints(self, filename: str) -> None:
        """Look for the best checkpoints in the folder of the resumed one. Paths in the file are not
        trusted, because the next best score would delete the file at that path.
        """
        for name, path in list(self.message_hub.runtime_info.items()):
            if name.startswith("best_ckpt") and path:
                beside = Path(filename).parent / Path(path).name
                self.message_hub.update_info(name, str(beside))

    # ------------------------------------------------------------------ training

    def point_to_this_run(self) -> None:
        """Until this run has a checkpoint, let ``last_checkpoint`` name the one it was resumed
        from, or nothing: if it is killed before, it must not be resumed as an earlier run in the
        same folder.
        """
        pointer = Path(self.work_dir) / LAST_CHECKPOINT
        if self.resumed_from or pointer.exists():
            write_atomically(pointer, (self.resumed_from or "").encode())

    def check_finite(self, values: Mapping[str, torch.Tensor | float], done: int) -> None:
        """Stop a training that has diverged.

        Raises:
            DivergedError: naming the value, the step and the last good checkpoint.
        """
        bad = [
            name for name, value in values.items() if not torch.as_tensor(value).isfinite().all()
        ]
        if not bad:
            return
        good = self._latest_checkpoint()
        raise DivergedError(
            f"training diverged: {listed(bad)} not finite at iteration {done}"
            f" (epoch {self.epoch + 1}); "
            + (f"the last good checkpoint is {good}" if good else "no checkpoint was written yet")
            + "; use a lower optim_wrapper.optimizer.lr, or clip gradients"
            " (optim_wrapper.clip_grad.max_norm)"
        )

    # ------------------------------------------------------------------ saving

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
        random_states: list[dict] | None = None,
        gradients: Sequence[dict] = (),
    ) -> None:
        """Write a checkpoint of the run, atomically. Arguments as in MMEngine.

        Args:
            random_states: State of the random generators for each process, from which training
                will continue; None: the current one of this process.
            gradients: Accumulated gradients for each process, see
                :func:`~mmsdpt.engine.state.unfinished_gradients`.
        """
        meta = dict(meta or {})
        meta.setdefault("epoch", self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault("iter", self.iter if by_epoch else self.iter + 1)
        meta.update(
            {RUN_CHECKPOINT: 1},
            tuners=describe_tuners(self.host),
            trained_classes={
                slot: list(tuner.trained_classes)
                for slot, tuner in getattr(self.host, "tuners", {}).items()
            },
            base=self._fingerprint_of_frozen(),
            mmsdpt_version=__version__,
            # MMEngine added it at the start of the run; formatting takes a second each time.
            cfg=self.message_hub.runtime_info.get("cfg") or self.cfg.pretty_text,
            seed=self.seed,
            settings={**run_settings(self.cfg), **self._kept_settings},
            experiment_name=self.experiment_name,
            time=time.strftime("%Y%m%d_%H%M%S", time.localtime()),
        )
        if hasattr(dataset := self.train_dataloader.dataset, "metainfo"):
            facts = dataset.metainfo
            if classes := all_classes(dataset):  # of all parts of a concatenation
                facts = {**(facts if isinstance(facts, Mapping) else {}), "classes": classes}
            meta["dataset_meta"] = facts
        state = {name: value.detach().cpu() for name, value in trained_state(self.host).items()}
        self.check_finite(state, meta["iter"])
        checkpoint = dict(
            meta=meta,
            state_dict=state,
            message_hub=pack_messages(
                self.message_hub.state_dict(), window=self.log_processor.window_size
            ),
            random_states=random_states or [random_state()],
        )
        if any(gradients):
            checkpoint["gradients"] = gradients
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = [
                # Without the function of OneCycleLR, which is a setting.
                {key: value for key, value in scheduler.state_dict().items() if not callable(value)}
                for scheduler in self.param_schedulers
            ]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(os.path.join(out_dir, filename), buffer.getvalue())


def _classes_of_data(meta: Mapping) -> Any:
    """The training classes in the metadata of a checkpoint."""
    facts = meta.get("dataset_meta")
    return facts.get("classes") if isinstance(facts, Mapping) else None


def _difference(name: str, now: Any, before: Any) -> str:
    return f"{name}={now!r} (the run has {before!r})"
