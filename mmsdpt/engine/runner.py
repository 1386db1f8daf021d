"""MMEngine's runner with small, safe, exact checkpoints."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, master_only
from mmengine.evaluator import Evaluator
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmsdpt.registry import RUNNERS
from mmsdpt.tuners.files import describe_tuners, differences, load_tuner, tuner_differences
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.base_weights import (
    CheckpointError,
    load_base_weights,
    read_checkpoint,
    resolve_checkpoint,
)
from mmsdpt.utils.fingerprint import base_fingerprint
from mmsdpt.version import __version__

from .data_files import (
    check_dataset_files,
    check_evaluator_files,
    prepare_data,
    use_own_image_loader,
)
from .sample_seeds import seed_samples
from .schedules import follow_max_epochs
from .state import pack_messages, random_state, trained_state, unpack_messages

RUN_CHECKPOINT = "mmsdpt_run"
LAST_CHECKPOINT = "last_checkpoint"


def build_runner(cfg: Config) -> Runner:
    """Build the runner that ``cfg.runner_type`` names, by default MMEngine's."""
    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


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
    * ``"max_epochs"`` in ``param_scheduler`` stands for the run's number of epochs;
    * distributed runs work on CPU (gloo).

    :class:`mmsdpt.TunerCheckpointHook` belongs to it.
    """

    resumed_random_states: list[dict] | None = None

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

    def _prepare_data(self, *roles: str, optional: Sequence[str] = ()) -> None:
        """Check what these roles read, before anything of theirs is built."""
        every = (*roles, *optional)
        prepare_data(
            {role: getattr(self, f"_{role}_dataloader") for role in every},
            {role: getattr(self, f"_{role}_evaluator", None) for role in every},
            Path(self.work_dir) / "annotations",
            optional,
        )

    def train(self) -> nn.Module:
        """As MMEngine's, after a look at the data of all splits."""
        self._prepare_data("train", "val", optional=("test",))
        return super().train()

    def val(self) -> dict:
        """As MMEngine's, after a look at the data."""
        self._prepare_data("val")
        return super().val()

    def test(self) -> dict:
        """As MMEngine's, after a look at the data."""
        self._prepare_data("test")
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
        """As MMEngine's, after a look at the files that the metrics name."""
        check_evaluator_files(evaluator)
        return super().build_evaluator(evaluator)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As MMEngine's, with a seed for each sample."""
        if not isinstance(loop, BaseLoop) and self._per_sample:
            if isinstance(self._train_dataloader, dict):
                self._train_dataloader = self.build_dataloader(
                    self._train_dataloader,
                    seed=self.seed,
                    diff_rank_seed=self._randomness_cfg.get("diff_rank_seed", False),
                )
            seed_samples(self._train_dataloader, self)
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
        for slot, path in (self.cfg.get("tuner_files") or {}).items():
            self.load_trained(path, slot)
        if self._resume:
            path = self.cfg.get("resume_from") or self._latest_checkpoint()
            if path is None:
                self.logger.info(f"Nothing to resume in {self.work_dir}: starting anew")
            else:
                self.resume(path)
        self._has_loaded = True

    def load_trained(self, path: str, slot: str = "default") -> None:
        """Load a tuner file, or the trained part of a run's checkpoint, onto the base weights."""
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
            f"{pointer} names {recorded}, which does not exist: delete {pointer} to start anew"
        )

    def load_checkpoint(
        self, filename: str, map_location="cpu", strict: bool = True, revise_keys=None
    ) -> dict:
        """Load the trained part of a run's checkpoint; the base weights stay as they are."""
        if not Path(filename).is_file():
            raise CheckpointError(f"checkpoint not found: {filename}")
        checkpoint = read_checkpoint(str(filename), map_location="cpu")
        self._check_belongs(filename, checkpoint)
        # What the parent's resume() expects to find.
        checkpoint["message_hub"] = unpack_messages(checkpoint.get("message_hub"))
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self.host.load_state_dict(checkpoint["state_dict"], strict=False)
        for slot, tuner in getattr(self.host, "tuners", {}).items():
            tuner.adopt(checkpoint["meta"]["tuners"][slot]["config"])
        self.resumed_random_states = checkpoint.get("random_states")
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
        found = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
        expected = {name: tuple(value.shape) for name, value in trained_state(self.host).items()}
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

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Continue the run that wrote ``filename``: weights, optimizer, schedules, log, random
        state. Arguments as in MMEngine.
        """
        before = self.seed
        super().resume(filename, *args, **kwargs)
        loader = self.train_dataloader
        for owner in (loader, loader.batch_sampler):
            sampler = getattr(owner, "sampler", None)
            if self.seed != before and getattr(sampler, "seed", None) == before:
                # It was built with this process's seed, before the run's was known.
                sampler.seed = self.seed

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
            experiment_name=self.experiment_name,
            time=time.strftime("%Y%m%d_%H%M%S", time.localtime()),
        )
        if hasattr(self.train_dataloader.dataset, "metainfo"):
            meta["dataset_meta"] = self.train_dataloader.dataset.metainfo
        checkpoint = dict(
            meta=meta,
            state_dict={
                name: value.detach().cpu() for name, value in trained_state(self.host).items()
            },
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
