"""The runner for tuning: logging, data, and loading of weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmsdpt.compat import NoiseFilter
from mmsdpt.evaluation.coco_eval import mend_coco_eval
from mmsdpt.registry import RUNNERS
from mmsdpt.tuners.files import load_tuner
from mmsdpt.utils.atomic import lock_folder
from mmsdpt.utils.base_weights import CheckpointError, load_base_file, resolve_checkpoint
from mmsdpt.utils.data_files import check_dataset_files, check_evaluator_files
from mmsdpt.utils.detection_benchmarks import complete_detection_data
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.feature_store import FeatureStore
from mmsdpt.version import __version__

from .config_errors import check_settings, settings_explained, try_first_sample
from .data_checks import prepare_data, use_own_image_loader, warn_of_other_numbers
from .feature_cache import FeatureCache
from .resumable import LAST_CHECKPOINT, ResumableRunner
from .sample_seeds import seed_samples
from .schedules import follow_max_epochs, follow_scores_alone


def build_runner(cfg: Config) -> Runner:
    """Build the runner that ``cfg.runner_type`` names, by default MMEngine's.

    Raises:
        InputError: for a misspelt or invalid setting.
    """
    check_settings(cfg)
    with settings_explained(cfg):
        return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


class _FormattedOnce(Config):
    """A config that caches its formatted text until it changes."""

    @classmethod
    def of(cls, cfg: Config) -> _FormattedOnce:
        """A copy with the same content and file name."""
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
class TunerRunner(ResumableRunner):
    """Runner for tuning; set ``runner_type = 'mmsdpt.TunerRunner'`` in the config.

    Differences from MMEngine's runner:

    * checkpoints are small, safe and exact (:class:`~mmsdpt.engine.resumable.ResumableRunner`);
    * ``load_from`` names the base weights, and they must fit; ``resume`` continues a run *on top
      of* them;
    * ``tuner_files = dict(slot=path)`` in the config fills slots after the base weights are loaded;
    * missing data is reported in one sentence;
    * augmentation depends only on seed, epoch and position of a sample, not on the worker
      (:func:`~mmsdpt.engine.sample_seeds.seed_samples`); ``randomness = dict(seed=0,
      per_sample=False)`` switches that off;
    * ``feature_cache = dict(views=K)`` in the config computes frozen features only once
      (:mod:`mmsdpt.engine.feature_cache`);
    * ``encoder_dtype = "bfloat16"`` stores the weights of frozen encoders in half precision
      (:mod:`mmsdpt.hosts.half_encoders`);
    * ``"max_epochs"`` in ``param_scheduler`` stands for the run's number of epochs;
    * distributed runs work on CPU (gloo);
    * the log begins with a few lines: no report of compilers, and the config is only in its file.

    Use it with :class:`mmsdpt.TunerCheckpointHook`.
    """

    feature_cache: FeatureCache | None = None
    feature_store: FeatureStore | None = None  # shared by several runs
    _has_folder = False

    @classmethod
    def from_cfg(cls, cfg: Config) -> TunerRunner:
        """As MMEngine's; also applies ``benchmark`` in the config, for any tool."""
        complete_detection_data(cfg)
        return super().from_cfg(cfg)

    # ------------------------------------------------------------------ the start of a log

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As MMEngine's, without messages that a user can do nothing about. A log that cannot be
        written ends the run.
        """
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(NoiseFilter(has_base=bool(self.cfg.get("load_from"))))
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = _raise_again  # logging prints a traceback for each line
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """Log versions and device. ``python -m mmsdpt.doctor`` shows more about the machine."""
        # Formatting takes half a second, and MMEngine does it four times.
        self.cfg = _FormattedOnce.of(self.cfg)
        processes = f"{self.world_size} process{'es' if self.world_size > 1 else ''}"
        self.logger.info(
            f"mmsdpt {__version__}, PyTorch {torch.__version__} on {get_device()},"
            f" {processes} of {torch.get_num_threads()} threads, seed {self.seed}"
        )
        self.logger.info(f"Config, log and results: {self.work_dir}")

    def dump_config(self) -> None:
        """As MMEngine's, but only for the run that holds the work folder: a test, or a training
        that is refused because another one is running, must not replace that training's config.
        """
        if self._has_folder:
            super().dump_config()

    def get_hooks_info(self) -> str:
        """The hooks in one line; MMEngine lists them for each of about seventy events."""
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
            seed: Seed of the run; None draws one.
            diff_rank_seed: Whether processes have different seeds.
            deterministic: Whether cuDNN must be deterministic.
            per_sample: Whether each training sample is augmented under its own seed. Otherwise
                augmentation depends on the number of workers, and a run with persistent workers
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
            # MMEngine would call torch.cuda.set_device, for every backend.
            torch_dist.init_process_group(backend="gloo")
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if self.distributed and not any(p.requires_grad for p in model.parameters()):
            # DistributedDataParallel refuses a model without gradients, but it can be tested.
            return model.to(get_device())
        if self.distributed and get_device() == "cpu":
            if model_wrapper_cfg is None:
                model_wrapper_cfg = dict(
                    broadcast_buffers=False,
                    find_unused_parameters=self.cfg.get("find_unused_parameters", False),
                )
            # MMEngine passes device ids, but DistributedDataParallel refuses them on the CPU.
            model_wrapper_cfg = dict(model_wrapper_cfg, device_ids=None)
        return super().wrap_model(model_wrapper_cfg, model)

    # ------------------------------------------------------------------ data

    def _prepare(self, *roles: str, optional: Sequence[str] = ()) -> None:
        """Check the data of these roles before building anything."""
        if self.feature_cache is None and self.cfg.get("feature_cache") is not None:
            self.feature_cache = FeatureCache(
                self.cfg["feature_cache"], self.host, self.feature_store
            )
            self.register_hook(self.feature_cache)
        role = roles[0]  # val is optional in training
        if getattr(self, f"_{role}_dataloader") is None:
            raise InputError(f"the config has no {role}_dataloader, so there is nothing to {role}")
        every = (*roles, *optional)
        prepare_data(
            {role: getattr(self, f"_{role}_dataloader") for role in every},
            {role: getattr(self, f"_{role}_evaluator", None) for role in every},
            Path(self.work_dir) / "annotations",
            optional,
        )

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Explain failing settings, and end the data loader processes with the run.

        Otherwise they would exist until this runner, which refers to itself, is garbage collected.
        Then PyTorch would wait five seconds for each, because their queues are closed first.
        """
        try:
            with settings_explained(self.cfg):
                yield
        finally:
            for loop in (self._train_loop, self._val_loop, self._test_loop):
                if isinstance(loop, BaseLoop):  # not the config of an unused loop
                    _end_workers(loop)

    def train(self) -> nn.Module:
        """As MMEngine's, after checking the data of all splits. Locks the work folder against other
        trainings.
        """
        alone = lock_folder(self.work_dir) if is_main_process() else nullcontext()
        with self._running(), alone:
            self._has_folder = True
            self.dump_config()
            if not self._resume and (Path(self.work_dir) / LAST_CHECKPOINT).exists():
                self.logger.warning(
                    f"{self.work_dir} has files of an earlier run, which this run replaces: to keep"
                    " them use another --work-dir, to continue that run use --resume"
                )
            self._prepare("train", "val", optional=("test",))
            return super().train()

    def val(self) -> dict:
        """As MMEngine's, after checking the data."""
        self._prepare("val")
        with self._running():
            return super().val()

    def test(self) -> dict:
        """As MMEngine's, after checking the data."""
        with self._running():
            if self._test_loop is None:
                self._prepare("test")  # reports what is missing in the config
            return super().test()

    # ------------------------------------------------------------------ building

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """As MMEngine's, after checking the files of the dataset, and with an image loader that
        names unreadable files.
        """
        if isinstance(dataloader, dict):
            check_dataset_files(dataloader.get("dataset"), classes=False)
            use_own_image_loader(dataloader.get("dataset"))
            if not dataloader.get("num_workers"):  # without workers, PyTorch refuses these settings
                of_workers = ("persistent_workers", "prefetch_factor")
                dataloader = {k: v for k, v in dataloader.items() if k not in of_workers}
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def build_evaluator(self, evaluator) -> Evaluator:
        """As MMEngine's, after checking the files of the metrics, and with faster-coco-eval if
        installed.
        """
        check_evaluator_files(evaluator)
        mend_coco_eval()
        return super().build_evaluator(evaluator)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As MMEngine's, with one seed per sample."""
        if not self._per_sample and self.feature_cache is not None:
            raise InputError(
                "feature_cache needs one seed per sample: remove"
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
        built = super().build_train_loop(loop)
        loader = built.dataloader
        if isinstance(loader, DataLoader) and not len(loader):
            raise InputError(
                f"{len(loader.dataset)} training images are fewer than one batch of"
                f" {loader.batch_size}, and drop_last is set: lower train_dataloader.batch_size"
            )
        if self.feature_cache is None:  # its views may know all samples already
            try_first_sample(loader)
        return built

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As MMEngine's, after checking the first sample."""
        built = super().build_val_loop(loop)
        try_first_sample(built.dataloader)
        warn_of_other_numbers("The val dataset", built.dataloader.dataset, built.evaluator)
        return built

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As MMEngine's, after checking the data and the first sample, even if the loop is accessed
        before the test.
        """
        if not isinstance(loop, BaseLoop):
            self._prepare("test")
        built = super().build_test_loop(loop)
        try_first_sample(built.dataloader)
        warn_of_other_numbers("The test dataset", built.dataloader.dataset, built.evaluator)
        return built

    def _build_param_scheduler(self, scheduler, optim_wrapper: OptimWrapper) -> list:
        """Like MMEngine's method, but schedules follow the length of the run, see
        :func:`follow_max_epochs`, and the scores that there are, see :func:`follow_scores_alone`. A
        schedule that begins after the end of the run is left out, because MMEngine refuses it.

        Raises:
            InputError: for a schedule by scores in a run that has none.
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
                        f" {'epochs' if by_epoch else 'iterations'}, but the run has {last}:"
                        " left out"
                    )
                    continue
            fitting.append(each)
        built = super()._build_param_scheduler(fitting, optim_wrapper)
        for each in built:
            if not isinstance(each, ReduceOnPlateauParamScheduler):
                continue
            if self._val_loop is None:
                raise InputError(
                    f"{type(each).__name__} follows the scores of validations, but this run does"
                    " not validate: set another param_scheduler, or validate (in a study:"
                    " study.selection)"
                )
            follow_scores_alone(each)
        return built

    # ------------------------------------------------------------------ loading

    def load_or_resume(self) -> None:
        """Load base weights, then tuner files, then the state of an interrupted run."""
        if self._has_loaded:
            return
        if self._load_from:
            path = resolve_checkpoint(self._load_from)
            load_base_file(self.host, path)
            self.logger.info(f"Loaded base weights from {path}")
        elif getattr(self.host, "tuners", None):
            self.logger.warning(
                "The base weights are random, but a tuner needs those of a trained model, which"
                " load_from names"
            )
        for slot, path in (self.cfg.get("tuner_files") or {}).items():
            self.load_trained(path, slot)
        if self._resume:
            path = self.cfg.get("resume_from") or self._latest_checkpoint()
            if path is None and (Path(self.work_dir) / LAST_CHECKPOINT).exists():
                raise CheckpointError(
                    f"the newest run in {self.work_dir} has no checkpoint yet: start it again"
                    " without --resume; to continue the run before it, name a checkpoint of that"
                    " run after --resume"
                )
            if path is None:
                self.logger.info(f"Nothing to resume in {self.work_dir}: starting a new run")
            else:
                self.resume(path)
        if (dtype := self.cfg.get("encoder_dtype")) is not None:
            if not getattr(self.host, "stages", tuple)():
                raise InputError(
                    f"encoder_dtype needs a host of mmsdpt, but {type(self.host).__name__} is"
                    " none: remove it from the config"
                )
            self.host.halve_encoders(dtype, not isinstance(self._train_loop, BaseLoop))
        self._has_loaded = True

    def load_trained(self, path: str, slot: str = "default") -> None:
        """Load a tuner file, or the trained part of a run's checkpoint, onto the base weights.

        Raises:
            InputError: if it does not fit, or there is no such slot.
        """
        if slot not in (slots := getattr(self.host, "tuners", {})):
            raise InputError(
                f"tuner_files.{slot}: the slots of the model are {', '.join(slots) or 'none'}"
            )
        if str(path).endswith(".safetensors"):
            load_tuner(self.host, path, slot)
        else:
            self.load_checkpoint(str(path))
            self.resumed_random_states = None  # random states belong to the other run


def _end_workers(loop: BaseLoop) -> None:
    """End the data loader processes of a loop; its loader can start new ones."""
    # A loop over iterations keeps the loader's iterator, which has workers that are not persistent.
    for holder in (loop.dataloader, getattr(loop, "dataloader_iterator", None)):
        iterator = getattr(holder, "_iterator", None)
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
    loop.dataloader._iterator = None


def _raise_again(record: logging.LogRecord) -> None:
    raise  # noqa: PLE0704 - called where the error is handled
