"""Checkpoints and tuner files, with the random state that makes a resumed run exact."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmsdpt.engine.resumable import LAST_CHECKPOINT
from mmsdpt.engine.runner import TunerRunner
from mmsdpt.engine.state import (
    is_score,
    model_facts,
    plain,
    progress,
    random_state,
    set_random_state,
    stopped_early,
    tuner_files,
    unfinished_gradients,
)
from mmsdpt.registry import HOOKS
from mmsdpt.tuners.files import save_tuner
from mmsdpt.utils.atomic import remove_unfinished, write_atomically
from mmsdpt.utils.data_files import all_classes, innermost_datasets
from mmsdpt.utils.errors import InputError

# In the message hub: iterations before the latest validation. MMEngine's log shows what begins with
# "val", as the name of version 0.2 did.
_VALIDATED, _VALIDATED_BEFORE = "iter_validated", "validated_iter"


@HOOKS.register_module()
class TunerCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook for :class:`mmsdpt.TunerRunner`.

    Besides the checkpoints it writes ``tuner.safetensors``, the newest state of the tuner, and with
    ``save_best`` also ``best_tuner.safetensors``, both atomically (``tuner_<slot>.safetensors`` if
    several slots train). If ``save_best`` is a list of scores, each has its own
    ``best_<score>_tuner.safetensors``. With ``save_last``, the default, a run that stops early
    also saves its last state. A checkpoint is removed only after the next one is complete, so a run
    killed at any moment can be resumed.

    A resumed run equals the uninterrupted one bit for bit on CPU: random states and accumulated
    gradients are restored, validation does not change the training's random state, and every sample
    is loaded under its own seed (:func:`~mmsdpt.engine.sample_seeds.seed_samples`), in epoch-based
    and iteration-based loops, with any number of workers, persistent or not. The number of
    processes must stay the same.

    Raises:
        InputError: if ``by_epoch`` does not match the loop: a run cannot continue in the middle of
            an epoch, and a loop over iterations would have only one checkpoint, at its end.
    """

    _training_random_state: dict | None = None  # while a validation runs

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.args:  # MMEngine passes unknown settings on to the saving of checkpoints
            raise InputError(
                f"TunerCheckpointHook has no setting {', '.join(self.args)}; its settings are"
                " interval, by_epoch, max_keep_ckpts, save_last, save_best, rule, save_begin and"
                " others of mmengine.hooks.CheckpointHook"
            )

    def before_train(self, runner: Runner) -> None:
        if not isinstance(runner, TunerRunner):
            raise TypeError(
                "TunerCheckpointHook needs runner_type='mmsdpt.TunerRunner', but this run has"
                f" {type(runner).__name__}"
            )
        if self.by_epoch != (by_epoch := isinstance(runner.train_loop, EpochBasedTrainLoop)):
            unit = "epochs" if by_epoch else "iterations"
            raise InputError(
                f"default_hooks.checkpoint has by_epoch={self.by_epoch}, but this run trains by"
                f" {unit}: set by_epoch={by_epoch} there, with an interval in {unit}; otherwise the"
                " run could not be resumed exactly"
            )
        super().before_train(runner)
        self._leave_best_elsewhere(runner)
        if is_main_process():
            remove_unfinished(self.out_dir)
            self._remove_outdated()
            runner.point_to_this_run()
        self._check_scores_are_possible(runner)
        runner.train_dataloader.generator = torch.Generator()
        if _validation_is_due(runner):
            # Most checkpoints are written before the validation of their epoch: without its score,
            # schedules and decisions based on scores would differ.
            runner.val_loop.run()

    def _leave_best_elsewhere(self, runner: TunerRunner) -> None:
        """Let the best checkpoints of a run that was resumed in another folder stay there. MMEngine
        would remove them at the next best score.
        """
        several = getattr(self, "best_ckpt_path_dict", {})
        known = filter(None, (getattr(self, "best_ckpt_path", None), *several.values()))
        here = Path(self.out_dir).resolve()
        paths = [x for x in known if Path(x).parent.resolve() != here and Path(x).is_file()]
        if not paths:
            return
        self.best_ckpt_path, self.best_ckpt_path_dict = None, dict.fromkeys(several)
        runner.logger.info(
            f"The best model so far is that of {', '.join(paths)}, which stays there: this run has"
            " a best one as soon as a score is better"
        )

    def _remove_outdated(self) -> None:
        """Remove outdated checkpoints that a killed run did not remove."""
        if self.max_keep_ckpts <= 0 or not self.keep_ckpt_ids:
            return
        name = re.escape(self.filename_tmpl).replace(re.escape("{}"), r"(\d+)")
        for path in Path(self.out_dir).iterdir():
            found = re.fullmatch(name, path.name)
            if found and int(found[1]) < min(self.keep_ckpt_ids):
                path.unlink(missing_ok=True)

    def _check_scores_are_possible(self, runner: TunerRunner) -> None:
        """Refuse ``save_best`` if no validation is due; warn if its images have no boxes."""
        if not self.save_best or runner.val_loop is None:
            return
        _, end = progress(runner.train_loop)
        if (begin := runner.train_loop.val_begin) > end:
            raise InputError(
                f"train_cfg.val_begin={begin} is after the end of the run, {end}, so no validation"
                " would take place and no best model would be saved: lower it"
            )
        for dataset in innermost_datasets(runner.val_dataloader.dataset):
            info = getattr(dataset, "get_data_info", None)
            if info is None or not len(dataset) or "instances" not in info(0):
                continue
            if not any(info(i)["instances"] for i in range(len(dataset))):
                runner.logger.warning(
                    f"The validation images have no boxes"
                    f" ({getattr(dataset, 'ann_file', '') or type(dataset).__name__}): there will"
                    " be no score, so no best model is saved"
                )

    def after_train_iter(
        self, runner: TunerRunner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        # MMEngine's log has already synchronised these values.
        runner.check_finite(outputs or {}, runner.iter + 1)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def before_train_epoch(self, runner: TunerRunner) -> None:
        source = np.random.SeedSequence((runner.seed or 0, runner.epoch, runner.rank))
        runner.train_dataloader.generator.manual_seed(int(source.generate_state(1)[0]))
        states, runner.resumed_random_states = runner.resumed_random_states, None
        if states is None:
            return
        if len(states) == runner.world_size:
            set_random_state(states[runner.rank])
        else:
            runner.logger.warning(
                f"The run had {len(states)} processes but now has {runner.world_size}, so its"
                " random states are not restored"
            )

    def before_val(self, runner: TunerRunner) -> None:
        self._training_random_state = random_state()

    def after_val(self, runner: TunerRunner) -> None:
        if self._training_random_state is not None:
            set_random_state(self._training_random_state)
            self._training_random_state = None

    def after_val_epoch(self, runner: TunerRunner, metrics: dict) -> None:
        # A new best score writes the last checkpoint again, so that it includes the score.
        runner.message_hub.update_info(_VALIDATED, runner.iter)
        super().after_val_epoch(runner, metrics)

    def after_train(self, runner: TunerRunner) -> None:
        # MMEngine saves after the last planned epoch or iteration, which a stopped run never
        # reaches. Its random state is that of the checkpoint, unless a resumed run had nothing left
        # to do.
        has_trained = runner.resumed_random_states is None
        if self.save_last and has_trained and stopped_early(runner.train_loop):
            step, _ = progress(runner.train_loop)
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self._save_checkpoint_with_step(runner, step, meta)
        if is_main_process() and not self._best_scores(runner):
            for path in sorted(Path(self.out_dir).glob("best_*.safetensors")):
                runner.logger.warning(f"{path} is of an earlier run: this run had no best score")
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner: TunerRunner, step: int, meta: dict) -> None:
        outdated: list[int] = []
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            random_states=all_gather_object(self._training_random_state or random_state()),
            gradients=all_gather_object(unfinished_gradients(runner.optim_wrapper))
            if self.save_optimizer
            else (),
        )
        if not is_main_process():
            return
        write_atomically(Path(runner.work_dir) / LAST_CHECKPOINT, self.last_ckpt.encode())
        for old in outdated:
            (Path(self.out_dir) / self.filename_tmpl.format(old)).unlink(missing_ok=True)
        self._save_tuners(runner, "", meta)

    def _save_best_checkpoint(self, runner: TunerRunner, metrics: dict) -> None:
        if not self.save_best:
            return
        wanted = list(metrics)[:1] if "auto" in self.key_indicators else self.key_indicators
        unknown = [name for name in wanted if name not in metrics]
        if unknown:
            raise InputError(
                f"save_best={unknown[0]!r} is not a score of this validation; its scores are:"
                f" {', '.join(metrics)}"
            )
        if not all(is_score(metrics[name]) for name in wanted):
            found = ", ".join(f"{name} is {plain(metrics[name])}" for name in wanted)
            runner.logger.warning(f"No best model is saved: {found}")
            return
        before = self._best_scores(runner)
        super()._save_best_checkpoint(runner, metrics)
        numbers = {name: plain(value) for name, value in metrics.items()}
        scores = {name: x for name, x in numbers.items() if isinstance(x, (int, float))}
        facts = dict(epoch=runner.epoch, iter=runner.iter, scores=scores)
        for key, score in self._best_scores(runner).items():
            if before.get(key) != score and is_main_process():
                prefix = key.replace("best_score", "best", 1).replace("/", "_")
                self._save_tuners(runner, f"{prefix}_", facts)

    @staticmethod
    def _best_scores(runner: TunerRunner) -> dict[str, float]:
        """Best scores by MMEngine's names: ``best_score``, or ``best_score_<score>`` if several."""
        information = runner.message_hub.runtime_info
        return {key: x for key, x in information.items() if key.startswith("best_score")}

    def _save_tuners(self, runner: TunerRunner, prefix: str, facts: dict) -> None:
        dataset = runner.train_dataloader.dataset
        extra = dict(facts, classes=list(all_classes(dataset)))
        model = model_facts(runner.cfg, runner.host, next(innermost_datasets(dataset)))
        for slot, path in tuner_files(runner.host, self.out_dir, prefix).items():
            save_tuner(runner.host, path, slot, extra, model)


def _validation_is_due(runner: TunerRunner) -> bool:
    """Whether a resumed run is at a validation of the original run but lacks its score."""
    loop, known = runner.train_loop, runner.message_hub.runtime_info
    validated = known.get(_VALIDATED, known.pop(_VALIDATED_BEFORE, None))
    if runner.val_loop is None or validated == loop.iter:
        return False
    done, end = progress(loop)
    loop._decide_current_val_interval()
    return done > 0 and done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)
