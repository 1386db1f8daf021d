"""MMEngine's runner with small, safe, exact checkpoints."""

from __future__ import annotations

import io
import logging
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmsdpt.compat import NoiseFilter
from mmsdpt.evaluation.faster_coco import use_faster_coco_eval
from mmsdpt.registry import RUNNERS
from mmsdpt.tuners.files import (
    describe_tuners,
    differences,
    kind,
    load_tuner,
    tuner_differences,
)
from mmsdpt.utils.atomic import lock_folder, write_atomically
from mmsdpt.utils.base_weights import (
    CheckpointError,
    load_base_weights,
    read_checkpoint,
    resolve_checkpoint,
)
from mmsdpt.utils.data_files import check_dataset_files, check_evaluator_files
from mmsdpt.utils.detection_benchmarks import apply_benchmark
from mmsdpt.utils.errors import DivergedError, InputError
from mmsdpt.utils.feature_store import FeatureStore
from mmsdpt.utils.fingerprint import base_fingerprint
from mmsdpt.version import __version__

from .checkpoint_checks import check_contents, check_resumable
from .config_errors import check_numbers, settings_explained
from .data_files import (
    prepare_data,
    use_own_image_loader,
)
from .feature_cache import FeatureCache
from .sample_seeds import seed_samples
from .schedules import follow_max_epochs
from .state import (
    pack_messages,
    random_state,
    run_settings,
    trained_state,
    tuner_file_name,
    unpack_messages,
)

RUN_CHECKPOINT = "mmsdpt_run"
LAST_CHECKPOINT = "last_checkpoint"


def build_runner(cfg: Config) -> Runner:
    """Build the runner that ``cfg.runner_type`` names, by default MMEngine's.

    Raises:
        InputError: for a setting that is misspelt or cannot be.
    """
    check_numbers(cfg)
    with settings_explained(cfg):
        return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


class _FormattedOnce(Config):
    """A config whose text is formatted again only after it has changed."""

    @classmethod
    def of(cls, cfg: Config) -> _FormattedOnce:
        """The same content and file name."""
        formatted = cls.__new__(cls)
        formatted.__dict__.update(cfg.__dict__)
        return formatted

    @property
    def pretty_text(self) -> str:
        content = self.to_dict()
        known = self.__dict__.get("_formatted")
        if known is None or known[0] != content:
            known = self.__dict__["_formatted"] = (content, super().pretty_text)
        return known[1]


@RUNNERS.register_module()
class TunerRunner(Runner):
    """Runner for tuning; set ``runner_type = 'mmsdpt.TunerRunner'`` in the config.

    What differs from MMEngine's runner:

    * a checkpoint holds what trains, optimizer, scheduler, log and random state; it is written
      atomically and read without unpickling objects;
    * ``load_from`` names the base weights, and they must fit; ``resume`` continues a run *on top
      of* them;
    * ``tuner_files = dict(slot=path)`` in the config fills slots after the base weights are there;
    * data that is missing ends in one sentence that names it;
    * augmentation follows from seed, epoch and place of a sample, whoever loads it
      (:func:`~mmsdpt.engine.sample_seeds.seed_samples`); ``randomness = dict(seed=0,
      per_sample=False)`` switches that off;
    * ``feature_cache = dict(views=K)`` in the config computes what is frozen once
      (:mod:`mmsdpt.engine.feature_cache`);
    * ``"max_epochs"`` in ``param_scheduler`` stands for the run's number of epochs;
    * distributed runs work on CPU (gloo);
    * the log begins with a few lines: no report of compilers, the config goes into its file only.

    :class:`mmsdpt.TunerCheckpointHook` belongs to it.
    """

    resumed_random_states: list[dict] | None = None
    feature_cache: FeatureCache | None = None
    feature_store: FeatureStore | None = None  # that several runs share
    _kept_settings: Mapping[str, Any] = MappingProxyType({})  # of a resumed run, not the config's

    @classmethod
    def from_cfg(cls, cfg: Config) -> TunerRunner:
        """As MMEngine's; ``benchmark`` in the config sets the data, whatever tool read it."""
        apply_benchmark(cfg)
        return super().from_cfg(cfg)

    # ------------------------------------------------------------------ the start of a log

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As MMEngine's, without messages that nobody can do anything about; a log that cannot be
        written ends the run.
        """
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(NoiseFilter(has_base=bool(self.cfg.get("load_from"))))
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = _raise_again  # logging prints a traceback for each line
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """Say what runs and where. ``python -m mmsdpt.doctor`` says more about the machine."""
        # Formatting takes half a second, and MMEngine does it for each of four readers.
        self.cfg = _FormattedOnce.of(self.cfg)
        processes = f"{self.world_size} process{'es' if self.world_size > 1 else ''}"
        self.logger.info(
            f"mmsdpt {__version__}, PyTorch {torch.__version__} on {get_device()},"
            f" {processes} of {torch.get_num_threads()} threads, seed {self.seed}"
        )
        self.logger.info(f"Config, log and results: {self.work_dir}")

    def get_hooks_info(self) -> str:
        """The hooks in one line, where MMEngine names them at each of their seventy occasions."""
        return ", ".join(type(hook).__name__ for hook in self._hooks)

    # ------------------------------------------------------------------ random numbers

    def set_randomness(
        self,
        seed: int | None = None,
        diff_rank_seed: bool = False,
        deterministic: bool = False,
        per_sample: bool = True,
    ) -> None:
        """As MMEngine's.

        Args:
            seed: Of the run; None draws one.
            diff_rank_seed: Whether processes have seeds of their own.
            deterministic: Whether cuDNN must be deterministic.
            per_sample: Whether each training sample is augmented under a seed of its own. Without
                it augmentation depends on the number of workers, and a run whose workers persist
                does not resume exactly.
        """
        super().set_randomness(seed, diff_rank_seed, deterministic)
        self._per_sample = per_sample

    # ------------------------------------------------------------------ distributed on CPU

    def setup_env(self, env_cfg: dict) -> None:
        if (
            self.distributed
            and not is_distributed()
            and not torch.cuda.is_available()
            and self.launcher == "pytorch"
        ):
            # MMEngine calls torch.cuda.set_device whatever the backend is.
            torch_dist.init_process_group(backend="gloo")
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if self.distributed and not any(p.requires_grad for p in model.parameters()):
            # DistributedDataParallel refuses a model without gradients, which can still be tested.
            return model.to(get_device())
        if self.distributed and get_device() == "cpu" and model_wrapper_cfg is None:
            # MMEngine hands over device ids, which DistributedDataParallel refuses for a model on
            # the CPU.
            return MMDistributedDataParallel(
                module=model,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get("find_unused_parameters", False),
            )
        return super().wrap_model(model_wrapper_cfg, model)

    # ------------------------------------------------------------------ data

    def _prepare(self, *roles: str, optional: Sequence[str] = ()) -> None:
        """Check what these roles read, before anything of theirs is built."""
        if self.feature_cache is None and self.cfg.get("feature_cache") is not None:
            self.feature_cache = FeatureCache(
                self.cfg["feature_cache"], self.host, self.feature_store
            )
            self.register_hook(self.feature_cache)
        every = (*roles, *optional)
        prepare_data(
            {role: getattr(self, f"_{role}_dataloader") for role in every},
            {role: getattr(self, f"_{role}_evaluator", None) for role in every},
            Path(self.work_dir) / "annotations",
            optional,
        )

    def train(self) -> nn.Module:
        """As MMEngine's, after a look at the data of all splits; nobody else may train in the same
        work folder.
        """
        alone = lock_folder(self.work_dir) if is_main_process() else nullcontext()
        with settings_explained(self.cfg), alone:
            self._prepare("train", "val", optional=("test",))
            return super().train()

    def val(self) -> dict:
        """As MMEngine's, after a look at the data."""
        self._prepare("val")
        with settings_explained(self.cfg):
            return super().val()

    def test(self) -> dict:
        """As MMEngine's, after a look at the data."""
        self._prepare("test")
        with settings_explained(self.cfg):
            return super().test()

    # ------------------------------------------------------------------ building

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """As MMEngine's, after a look at the files that the dataset names, and with an image
        loader that names what it cannot read.
        """
        if isinstance(dataloader, dict):
            check_dataset_files(dataloader.get("dataset"))
            use_own_image_loader(dataloader.get("dataset"))
            if not dataloader.get("num_workers"):  # PyTorch refuses settings of workers, then
                of_workers = ("persistent_workers", "prefetch_factor")
                dataloader = {k: v for k, v in dataloader.items() if k not in of_workers}
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def build_evaluator(self, evaluator) -> Evaluator:
        """As MMEngine's, after a look at the files that the metrics name, and with faster-coco-eval
        where that is installed.
        """
        check_evaluator_files(evaluator)
        use_faster_coco_eval()
        return super().build_evaluator(evaluator)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As MMEngine's, with a seed for each sample."""
        if not self._per_sample and self.feature_cache is not None:
            raise InputError(
                "feature_cache needs samples that have seeds of their own: remove"
                " randomness.per_sample=False, or feature_cache"
            )
        if not isinstance(loop, BaseLoop) and self._per_sample:
            if isinstance(self._train_dataloader, dict):
                self._train_dataloader = self.build_dataloader(
                    self._train_dataloader,
                    seed=self.seed,
                    diff_rank_seed=self._randomness_cfg.get("diff_rank_seed", False),
                )
            views = self.feature_cache and self.feature_cache.views(self._train_dataloader)
            seed_samples(self._train_dataloader, self, views)
        return super().build_train_loop(loop)

    def _build_param_scheduler(self, scheduler, optim_wrapper: OptimWrapper) -> list:
        """As MMEngine's, for schedules that follow the length of the run, see
        :func:`follow_max_epochs`. One that begins after the run ends is left out: MMEngine
        refuses it.
        """
        fitting = []
        for each in scheduler if isinstance(scheduler, Sequence) else [scheduler]:
            if isinstance(each, dict):
                each = follow_max_epochs(each, self.max_epochs)
                by_epoch = each.get("by_epoch", True)
                last = self.max_epochs if by_epoch else self.max_iters
                if "end" not in each and each.get("begin", 0) >= last:
                    self.logger.info(
                        f"{each['type']} begins after {each['begin']}"
                        f" {'epochs' if by_epoch else 'iterations'}, and the run has {last}:"
                        " left out"
                    )
                    continue
            fitting.append(each)
        return super()._build_param_scheduler(fitting, optim_wrapper)

    # ------------------------------------------------------------------ loading

    @property
    def host(self) -> nn.Module:
        """The model without its distributed wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def load_or_resume(self) -> None:
        """Base weights, then tuner files, then the state of an interrupted run."""
        if self._has_loaded:
            return
        if self._load_from:
            path = resolve_checkpoint(self._load_from)
            load_base_weights(self.host, read_checkpoint(path)["state_dict"], path)
            self.logger.info(f"Loaded base weights from {path}")
        elif getattr(self.host, "tuners", None):
            self.logger.warning(
                "The base weights are random: a tuner needs those of a trained model, which"
                " load_from names"
            )
        self._check_image_sizes()
        for slot, path in (self.cfg.get("tuner_files") or {}).items():
            self.load_trained(path, slot)
        if self._resume:
            path = self.cfg.get("resume_from") or self._latest_checkpoint()
            if path is None:
                self.logger.info(f"Nothing to resume in {self.work_dir}: starting a new run")
            else:
                self.resume(path)
        self._has_loaded = True

    def _check_image_sizes(self) -> None:
        """Warn where CLIP's images have another size than its position embeddings are for."""
        own = getattr(getattr(self.host, "visual", None), "img_size", None)
        side = own[0] if isinstance(own, (tuple, list)) else own
        for role in ("train", "val", "test") if side else ():
            dataset = (self.cfg.get(f"{role}_dataloader") or {}).get("dataset") or {}
            found = dataset.get("image_size") if isinstance(dataset, Mapping) else None
            if found not in (None, side):
                self.logger.warning(
                    f"{role}_dataloader.dataset.image_size is {found}, and the model is for images"
                    f" of {side} pixels: its position embeddings are interpolated; its weights were"
                    f" trained with image_size={side}"
                )

    def load_trained(self, path: str, slot: str = "default") -> None:
        """Load a tuner file, or the trained part of a run's checkpoint, onto the base weights.

        Raises:
            InputError: if it does not fit, or there is no such slot.
        """
        if slot not in (slots := getattr(self.host, "tuners", {})):
            raise InputError(
                f"tuner_files.{slot}: the model has the slots {', '.join(slots) or 'none'}"
            )
        if str(path).endswith(".safetensors"):
            load_tuner(self.host, path, slot)
        else:
            self.load_checkpoint(str(path))
            self.resumed_random_states = None  # they belong to that run, not to this one

    def _latest_checkpoint(self) -> str | None:
        pointer = Path(self.work_dir) / LAST_CHECKPOINT
        if not pointer.is_file():
            return None
        recorded = Path(pointer.read_text().strip())
        # The work directory may have been moved since.
        for path in (recorded, Path(self.work_dir) / recorded.name):
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
                f"{filename} is not a checkpoint of an mmsdpt run, which ends in .pth: base weights"
                " go into load_from, and a tuner file, which has no state of the optimizer, starts"
                f" a new run with --cfg-options tuner_files.default={filename}"
            )
        checkpoint = read_checkpoint(str(filename), map_location="cpu")
        self._check_belongs(filename, checkpoint)
        checkpoint["message_hub"] = unpack_messages(checkpoint["message_hub"])
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self.host.load_state_dict(checkpoint["state_dict"], strict=False)
        for slot, tuner in getattr(self.host, "tuners", {}).items():
            tuner.adopt(checkpoint["meta"]["tuners"][slot]["config"])
        self.resumed_random_states = checkpoint["random_states"]
        self.logger.info(f"Loaded {filename}")
        return checkpoint

    def _check_belongs(self, filename: str, checkpoint: dict) -> None:
        """Refuse what another kind of run wrote, or one on other base weights."""
        meta = checkpoint.get("meta")
        if not isinstance(meta, dict) or meta.get(RUN_CHECKPOINT) is None:
            raise CheckpointError(
                f"{filename} is not a checkpoint of an mmsdpt run; base weights go into load_from,"
                " tuner files end in .safetensors"
            )
        check_contents(checkpoint, filename)
        found = {name: kind(value) for name, value in checkpoint["state_dict"].items()}
        expected = {name: kind(value) for name, value in trained_state(self.host).items()}
        different = tuner_differences(self.host, meta.get("tuners")) or differences(found, expected)
        if different:
            raise CheckpointError(
                f"{filename} was written by a run that trained something else: {different}"
            )
        if meta.get("base") != self._fingerprint_of_frozen():
            raise CheckpointError(
                f"{filename} was written by a run on other base weights: name the same checkpoint"
                " with load_from"
            )

    def _fingerprint_of_frozen(self) -> str | None:
        """What identifies the base weights throughout the run; None where all of them train."""
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
        state. Arguments as in MMEngine, whose own method runs a config that the file may hold.

        Raises:
            CheckpointError: if a part of the file is missing, damaged or does not fit.
        """
        checkpoint = self.load_checkpoint(filename)
        meta = checkpoint["meta"]
        self._check_classes(filename, meta)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
            checkpoint["param_schedulers"] = self._with_later_schedules(
                checkpoint.get("param_schedulers"), meta
            )
        check_resumable(checkpoint, filename, self.optim_wrapper, self.param_schedulers)
        self._say_what_is_ignored(meta, checkpoint.get("param_schedulers"))
        self.train_loop._epoch, self.train_loop._iter = meta["epoch"], meta["iter"]
        self._take_over_seed(meta.get("seed"))
        self.message_hub.load_state_dict(checkpoint["message_hub"])
        self._find_best_checkpoints(filename)
        if resume_optimizer:
            self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
        if resume_param_scheduler and self.param_schedulers is not None:
            found = checkpoint["param_schedulers"]
            by_name = isinstance(self.param_schedulers, dict)
            for name in self.param_schedulers if by_name else (slice(None),):
                for scheduler, state in zip(self.param_schedulers[name], found[name], strict=True):
                    scheduler.load_state_dict(state)
            self._begin_later_schedules(meta)
        self._has_loaded = True
        self.logger.info(f"Resumed at epoch {self.epoch}, iteration {self.iter}")
        if self.iter >= self.max_iters:
            self.logger.warning(
                "The run is finished, and nothing is left to train; a larger train_cfg.max_epochs"
                " or max_iters makes it longer"
            )

    def _with_later_schedules(self, found: Any, meta: Mapping) -> Any:
        """The schedules of a checkpoint, with the present state of those that begin after the end
        that the run then had, for which it left them out.
        """
        before = (meta.get("settings") or {}).get("train_cfg.max_epochs")
        own = self.param_schedulers
        if not isinstance(own, list) or not isinstance(found, list) or type(before) is not int:
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
        """Let the schedules that were left out count what is done."""
        for scheduler in self.param_schedulers if isinstance(self.param_schedulers, list) else ():
            done = meta["epoch" if scheduler.by_epoch else "iter"]
            if scheduler._global_step == 0 and done:
                scheduler._global_step = done - 1
                with warnings.catch_warnings():  # of MMEngine, about the order of first steps
                    warnings.simplefilter("ignore")
                    scheduler.step()

    def _check_classes(self, filename: str, meta: dict) -> None:
        """Refuse a run on other classes: its labels would take each other's names."""
        facts = meta.get("dataset_meta")
        before = facts.get("classes") if isinstance(facts, Mapping) else None
        now = getattr(self.train_dataloader.dataset, "metainfo", {}).get("classes")
        if before is not None and now is not None and list(before) != list(now):
            raise CheckpointError(
                f"{filename} was written by a run on other classes or in another order:"
                f" {_listed(before)}; the config's data has {_listed(now)}"
            )

    def _say_what_is_ignored(self, meta: dict, schedules: Any) -> None:
        """One line on settings that a resumed run does not take from the config."""
        before, now = dict(meta.get("settings") or {}), run_settings(self.cfg)
        kept = {
            name: before.get(name)
            for name in {*before, *now}
            if before.get(name) != now.get(name)
            and not name.startswith(("train_cfg.", "train_dataloader.", "feature_cache."))
        }
        taken = [
            _difference(name, now.get(name), before.get(name))
            for name in sorted({*before, *now} - {*kept})
            if before.get(name) != now.get(name)
        ]
        ignored = [_difference(name, now.get(name), kept[name]) for name in sorted(kept)]
        ignored += self._changed_lengths(schedules)
        self._kept_settings = kept
        if taken:
            self.logger.info(f"Resuming with another setting, from here on: {'; '.join(taken)}")
        if ignored:
            self.logger.warning(
                f"A resumed run keeps its optimizer and schedules; ignored: {'; '.join(ignored)}."
                " To train on with these, start a new run from what is learned: without --resume,"
                f" with --work-dir ANOTHER_FOLDER --cfg-options {self._as_tuner_files()}"
            )

    def _as_tuner_files(self) -> str:
        """The setting that starts a run from the tuner files of this one."""
        slots = [slot for slot, tuner in self.host.tuners.items() if not tuner.frozen]
        return " ".join(
            f"tuner_files.{slot}={Path(self.work_dir) / tuner_file_name(slot, slots)}"
            for slot in slots
        )

    def _changed_lengths(self, found: Any) -> list[str]:
        """Lengths of schedules that would follow another number of epochs."""
        if not self.param_schedulers:
            return []
        by_name = isinstance(self.param_schedulers, dict)
        pairs = [
            (i, scheduler.state_dict(), state)
            for name in (self.param_schedulers if by_name else (slice(None),))
            for i, (scheduler, state) in enumerate(
                zip(self.param_schedulers[name], found[name], strict=True)
            )
        ]
        return [
            _difference(f"param_scheduler.{i}.{key}", now[key], before.get(key))
            for i, now, before in pairs
            for key in ("T_max", "end", "total_iters")
            if key in now and now[key] != before.get(key)
        ]

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
                # It was built with this process's seed, before the run's was known.
                sampler.seed = self.seed

    def _find_best_checkpoints(self, filename: str) -> None:
        """The best checkpoints lie beside the resumed one; a path that a file names is not trusted:
        the next best score removes what it names.
        """
        for name, path in list(self.message_hub.runtime_info.items()):
            if name.startswith("best_ckpt") and path:
                beside = Path(filename).parent / Path(path).name
                self.message_hub.update_info(name, str(beside))

    # ------------------------------------------------------------------ training

    def check_finite(self, values: Mapping[str, torch.Tensor | float], done: int) -> None:
        """Stop a training that has diverged.

        Args:
            values: Losses or trained tensors by name.
            done: Iterations that are done.

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
            f"the training has diverged: {_listed(bad)} not finite at iteration {done}"
            f" (epoch {self.epoch + 1}); "
            + (f"the last good state is {good}" if good else "no state was written yet")
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
    ) -> None:
        """Write a checkpoint of the run, atomically. Arguments as in MMEngine.

        Args:
            random_states: For each process the state of the random generators that training will
                continue with; None: this process's present one.
        """
        meta = dict(meta or {})
        meta.setdefault("epoch", self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault("iter", self.iter if by_epoch else self.iter + 1)
        meta.update(
            {RUN_CHECKPOINT: 1},
            tuners=describe_tuners(self.host),
            base=self._fingerprint_of_frozen(),
            mmsdpt_version=__version__,
            # MMEngine put it there when the run began; formatting takes a second each time.
            cfg=self.message_hub.runtime_info.get("cfg") or self.cfg.pretty_text,
            seed=self.seed,
            settings={**run_settings(self.cfg), **self._kept_settings},
            experiment_name=self.experiment_name,
            time=time.strftime("%Y%m%d_%H%M%S", time.localtime()),
        )
        if hasattr(self.train_dataloader.dataset, "metainfo"):
            meta["dataset_meta"] = self.train_dataloader.dataset.metainfo
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
        if save_optimizer:
            if not isinstance(self.optim_wrapper, OptimWrapper):
                raise TypeError(
                    f"expected an OptimWrapper, got {type(self.optim_wrapper).__name__}"
                )
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = [
                scheduler.state_dict() for scheduler in self.param_schedulers
            ]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(os.path.join(out_dir, filename), buffer.getvalue())


def _raise_again(record: logging.LogRecord) -> None:
    raise  # noqa: PLE0704 - called where the error is handled


def _difference(name: str, now: Any, before: Any) -> str:
    return f"{name}={now!r} (the run has {before!r})"


def _listed(names: Iterable[object], most: int = 5) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
