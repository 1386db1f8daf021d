"""MMEngine's runner with small, safe, exact checkpoints."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import torch
import torch.distributed as torch_dist
from mmengine.device import get_device
from mmengine.dist import is_distributed, master_only
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmsdpt.registry import RUNNERS
from mmsdpt.tuners.files import load_tuner
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.version import __version__

from .base_weights import CheckpointError, load_base_weights, read_checkpoint, resolve_checkpoint
from .state import random_state, trained_state

RUN_CHECKPOINT = "mmsdpt_run"
LAST_CHECKPOINT = "last_checkpoint"


@RUNNERS.register_module()
class TunerRunner(Runner):
    """Runner for tuning; set ``runner_type = 'mmsdpt.TunerRunner'`` in the config.

    What differs from MMEngine's runner:

    * a checkpoint holds what trains, optimizer, scheduler, log and random state; it is written
      atomically and read without unpickling objects;
    * ``load_from`` names the base weights, and they must fit; ``resume`` continues a run *on top
      of* them;
    * ``tuner_files = dict(slot=path)`` in the config fills slots after the base weights are there;
    * distributed runs work on CPU (gloo).

    :class:`mmsdpt.TunerCheckpointHook` belongs to it.
    """

    resumed_random_state: dict | None = None

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
        if self.distributed and get_device() == "cpu" and model_wrapper_cfg is None:
            # MMEngine hands over device ids, which DistributedDataParallel refuses for a model on
            # the CPU.
            return MMDistributedDataParallel(module=model, broadcast_buffers=False)
        return super().wrap_model(model_wrapper_cfg, model)

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
        checkpoint = read_checkpoint(str(filename), map_location="cpu")
        if checkpoint.get("meta", {}).get(RUN_CHECKPOINT) is None:
            raise CheckpointError(
                f"{filename} is not a checkpoint of an mmsdpt run; base weights go into load_from,"
                " tuner files end in .safetensors"
            )
        # What the parent's resume() expects to find.
        checkpoint["message_hub"] = _unpack_messages(checkpoint.get("message_hub"))
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        state = checkpoint["state_dict"]
        expected = trained_state(self.host)
        if state.keys() != expected.keys():
            difference = sorted(state.keys() ^ expected.keys())
            raise CheckpointError(
                f"{filename} was written by a run that trained something else; first difference:"
                f" {difference[0]}"
            )
        self.host.load_state_dict(state, strict=False)
        self.resumed_random_state = checkpoint.get("random_state")
        self.logger.info(f"Loaded {filename}")
        return checkpoint

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
        random_state_to_save: dict | None = None,
    ) -> None:
        """Write a checkpoint of the run, atomically. Arguments as in MMEngine.

        Args:
            random_state_to_save: State of the random generators that training will continue with;
                None: the present one.
        """
        meta = dict(meta or {})
        meta.setdefault("epoch", self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault("iter", self.iter if by_epoch else self.iter + 1)
        meta.update(
            {RUN_CHECKPOINT: 1},
            mmsdpt_version=__version__,
            cfg=self.cfg.pretty_text,
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
            message_hub=_pack_messages(self.message_hub.state_dict()),
            random_state=random_state_to_save or random_state(),
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


def _pack_messages(state: dict) -> dict:
    """The message hub in plain types: ``weights_only`` loading takes no HistoryBuffer."""
    scalars = {
        name: dict(
            values=torch.as_tensor(buffer.data[0], dtype=torch.float64),
            counts=torch.as_tensor(buffer.data[1], dtype=torch.int64),
            max_length=buffer.max_length,
        )
        for name, buffer in state["log_scalars"].items()
    }
    plain = {
        name: value
        for name, value in state["runtime_info"].items()
        if isinstance(value, (str, int, float, bool, list, type(None)))
    }
    return dict(log_scalars=scalars, runtime_info=plain, resumed_keys=dict(state["resumed_keys"]))


def _unpack_messages(packed: dict | None) -> dict:
    packed = packed or dict(log_scalars={}, runtime_info={}, resumed_keys={})
    scalars = {
        name: HistoryBuffer(item["values"].tolist(), item["counts"].tolist(), item["max_length"])
        for name, item in packed["log_scalars"].items()
    }
    known = {**scalars, **packed["runtime_info"]}
    return dict(
        log_scalars=scalars,
        runtime_info=packed["runtime_info"],
        resumed_keys={name: flag for name, flag in packed["resumed_keys"].items() if name in known},
    )
