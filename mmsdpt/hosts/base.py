"""What all hosts share: tuner slots, the rule for what trains, and eval mode of frozen parts."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any

import torch
from mmengine.logging import MMLogger, print_log
from torch import Tensor, nn

from mmsdpt.compat import NoiseFilter
from mmsdpt.registry import MODELS
from mmsdpt.utils.base_weights import load_base_file, only_tensors_are_read
from mmsdpt.utils.errors import CheckpointError, InputError
from mmsdpt.utils.memo import Memo

from .half_encoders import HalfEncodersMixin
from .seams import ParameterSeam, SeamMap, acting_tuners
from .stages import Images, KnownImages, Stage, StageCache

DEFAULT_SLOT = "default"
_SLOT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = frozenset(dir(nn.ModuleDict()))


def resolve_slots(tuner: Mapping | None, tuners: Mapping[str, Mapping] | None) -> dict[str, dict]:
    """Slot name to tuner config. ``tuner=`` is short for one slot named ``default``.

    Raises:
        InputError: if both are given, or a slot's name cannot be part of a parameter name.
    """
    if tuner is not None and tuners is not None:
        raise InputError("give either tuner= (one slot) or tuners= (several, by name), not both")
    slots = {DEFAULT_SLOT: tuner} if tuner is not None else dict(tuners or {})
    for name in slots:
        if not isinstance(name, str) or not _SLOT_NAME.fullmatch(name):
            raise InputError(
                "a slot's name becomes part of parameter names: letters, digits and _, got"
                f" {name!r}"
            )
        if name in RESERVED:
            raise InputError(
                f"a slot cannot be named {name!r}, which is an attribute of torch's ModuleDict:"
                " choose another name"
            )
    return {name: copy.deepcopy(dict(cfg)) for name, cfg in slots.items() if cfg is not None}


def build_on_base(config: Mapping[str, Any], path: str) -> nn.Module:
    """Build the model of a config and load the base weights of a file.

    Messages of the toolboxes about parts that have no weights yet are kept out of the log.

    Raises:
        CheckpointError: if the file cannot be read or does not fit.
    """
    logger, noise = MMLogger.get_current_instance(), NoiseFilter(has_base=True)
    logger.addFilter(noise)
    try:
        model = MODELS.build(config)
    finally:
        logger.removeFilter(noise)
    load_base_file(model, path)
    return model


class TunableMixin(HalfEncodersMixin):
    """Slots for tuners on a ``BaseModel``. All trained state of a method lives under
    ``tuners.<slot>``.

    A host calls :meth:`_attach_tuners` at the end of its constructor. This decides what trains,
    before an optimizer exists. Without tuners the whole model trains, except for what its own
    configuration freezes. With tuners only the tuners train, plus the host's parameters whose names
    match one of the regular expressions in ``trainable``.

    Args of every host:
        tuner: Config of one tuner; short for ``tuners=dict(default=...)``.
        tuners: Configs of several tuners by slot name.
        trainable: Regular expressions; host parameters with a matching name train, too. None: all
            parameters of the host without a tuner, none with one.
    """

    tuners: nn.ModuleDict
    features: StageCache | None = None
    """Cache for outputs of frozen stages, or None; see :meth:`keep_features`."""
    _stages: Mapping[str, Stage] = MappingProxyType({})
    starts_at_zero: tuple[str, ...] = ()
    """Parameters that base weights may lack, as only training needs them. They are then zero."""
    _parameter_seams: Sequence[ParameterSeam] = ()
    _is_tuned = False
    _loads_as_asked = False
    _originals: tuple[Sequence[ParameterSeam], Sequence[Tensor]] = (), ()

    def _dump_init_info(self) -> None:
        """Do nothing: MMEngine would write three lines per parameter into the log of a run."""

    def seams(self) -> SeamMap:
        """The seams where tuners can act."""
        raise NotImplementedError

    def stages(self) -> Sequence[Stage]:
        """The parts whose output may be cached while nothing in them trains; see
        :mod:`mmsdpt.hosts.stages`.
        """
        return ()

    def keep_features(self, features: StageCache | None) -> None:
        """From now on, compute frozen features only once per input; None: every time."""
        self.features = features
        self._stages = {stage.name: stage for stage in self.stages()}

    def _known_images(self, images: Images, samples: Sequence[Any] | None) -> Images:
        """Images (B, 3, H, W) of a batch; with a feature cache, with the views of its samples."""
        if self.features is None or isinstance(images, KnownImages):
            return images
        return KnownImages(images, [sample.pop("view", None) for sample in samples or ()])

    def parameter_group(self, name: str) -> str:
        """Part of the host that a parameter belongs to; see :class:`ParameterSeam`."""
        return name.partition(".")[0]

    def _attach_tuners(
        self,
        tuner: Mapping | None,
        tuners: Mapping[str, Mapping] | None,
        trainable: Sequence[str] | None,
    ) -> None:
        slots = resolve_slots(tuner, tuners)
        self._parameter_seams = [
            ParameterSeam(index, name, self.parameter_group(name), self.get_submodule(owner))
            for index, (name, owner) in enumerate(
                (name, name.rpartition(".")[0]) for name, _ in self.named_parameters()
            )
        ]
        self._in_effect: Memo[list[Tensor]] = Memo()
        self.tuners = nn.ModuleDict()
        self._trainable_patterns = self._compile_patterns(trainable)
        seams = self.seams()
        for slot, cfg in slots.items():
            self.tuners[slot] = MODELS.build(cfg, default_args=dict(seams=seams))
        if not slots and trainable is None:
            return  # the plain host: what its own configuration freezes stays frozen
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.is_trainable(name))
        only_frozen_tuners = slots and all(module.frozen for module in self.tuners.values())
        if not only_frozen_tuners and not any(p.requires_grad for p in self.parameters()):
            raise ValueError(
                f"nothing would train: no parameter of {type(self).__name__} is in an unfrozen"
                f" tuner or matches trainable={list(trainable or [])}"
            )
        self.train(self.training)  # frozen parts are in eval mode from the start

    def _compile_patterns(self, trainable: Sequence[str] | None) -> list[re.Pattern] | None:
        """Compile ``trainable``. A pattern that matches no parameter is an error, because it would
        silently train nothing.
        """
        if trainable is None:
            return None
        if isinstance(trainable, str):
            raise ValueError(
                f"trainable must be a list of regular expressions, got the string {trainable!r}"
            )
        try:
            patterns = [re.compile(pattern) for pattern in trainable]
        except (re.error, TypeError) as error:
            raise ValueError(
                f"trainable={trainable} has an invalid regular expression: {error}"
            ) from error
        names = [name for name, _ in self.named_parameters()]
        for pattern in patterns:
            if not any(pattern.search(name) for name in names):
                raise ValueError(
                    f"trainable={pattern.pattern!r} matches no parameter of {type(self).__name__};"
                    f" a parameter's name is, for example, {names[0]}"
                )
        return patterns

    def is_trainable(self, name: str) -> bool:
        """Whether the parameter with this name trains."""
        if name.startswith("tuners."):
            return not self.tuners[name.split(".")[1]].frozen
        if self._trainable_patterns is not None:
            return any(pattern.search(name) for pattern in self._trainable_patterns)
        return not self.tuners

    def init_weights(self) -> None:
        """As in MMEngine, but a file named by an ``init_cfg`` is read without executing code."""
        with only_tensors_are_read():
            super().init_weights()

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in torch, which reports missing tensors or raises an error for them."""
        self._loads_as_asked = True
        try:
            return super().load_state_dict(state_dict, *args, **kwargs)  # type: ignore[misc]
        finally:
            self._loads_as_asked = False

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # The toolboxes' inferencers call MMEngine's own function, which comes here directly. It
        # would leave missing weights random and only print their names.
        if not prefix and not self._loads_as_asked:
            self._refuse_parts(state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]

    def _refuse_parts(self, state: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that would leave the host's weights random."""
        names = [name for name, _ in self.named_parameters()]  # type: ignore[attr-defined]
        known = {*state, *self.starts_at_zero}
        missing = [n for n in names if n not in known and not n.startswith("tuners.")]
        if missing:
            raise CheckpointError(
                f"the checkpoint lacks {len(missing)} of the weights of {type(self).__name__}, such"
                f" as {missing[0]}, which would stay random: it has only what was tuned, or"
                " belongs to another model; use mmsdpt.apis.Detector or Classifier with the tuner"
                " file, or tools/test.py"
            )
        if untuned := [slot for slot in self.tuners if not _has_part(state, f"tuners.{slot}.")]:
            print_log(
                f"The checkpoint has no tensors for tuner slot {untuned[0]!r}, which acts"
                " untrained",
                "current",
                logging.WARNING,
            )

    def train(self, mode: bool = True):
        """Set the mode; parts in which nothing trains stay in eval mode (no dropout, drop-path or
        DropBlock). With tuners batch norms do, too: their running statistics belong to the host and
        are in no tuner file.
        """
        super().train(mode)
        if mode:
            replaced = {
                id(seam.value()) for seam in self._parameter_seams if seam.replaced_in_training()
            }
            tuners = {id(module) for module in self.tuners.modules()}
            _eval_frozen(self, {id(self), *tuners}, replaced)
            for module in self.modules() if self.tuners else ():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(module) not in tuners:
                    module.eval()
            for tuner in self.tuners.values():
                if tuner.frozen:
                    tuner.eval()
        return self

    @contextmanager
    def tuned(self) -> Iterator[None]:
        """During a forward pass, give parameters the values that tuners set for them.

        A nested call does nothing.
        """
        if self._is_tuned:
            yield
            return
        for tuner in self.tuners.values():
            tuner.prepare()
        seams = [seam for seam in self._parameter_seams if seam.active()]
        values = self._values_in_effect(seams)
        self._is_tuned, self._originals = True, (seams, [seam.value() for seam in seams])
        try:
            with _values_in_place(seams, values):
                yield
        finally:
            self._is_tuned, self._originals = False, ((), ())

    @contextmanager
    def untuned(self) -> Iterator[None]:
        """Temporarily use the host without tuners and gradients; works during a pass, too."""
        before, self._is_tuned = self._is_tuned, True
        try:
            with torch.no_grad(), self.tuners_off(), _values_in_place(*self._originals):
                yield
        finally:
            self._is_tuned = before

    def _with_present_values(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` with the parameter values of now. It can then also run in the backward pass,
        when tuners no longer replace the parameters.
        """
        seams = [seam for seam in self._parameter_seams if seam.active()]
        return _WithValues(function, seams, [seam.value() for seam in seams]) if seams else function

    def _values_in_effect(self, seams: Sequence[ParameterSeam]) -> list[Tensor]:
        """Values of the parameters; without gradients they are constant and computed once."""
        if torch.is_grad_enabled() or not seams:
            return [seam.in_effect() for seam in seams]
        tuners = acting_tuners(seams)
        used = [seam.value() for seam in seams]
        for tuner in tuners:
            used += [*tuner.parameters(), *tuner.buffers()]
        # The tuners and their modes count, too: one without parameters may be switched on or off,
        # and one with dropout gives other values in training.
        modes = [(tuner, tuner.training) for tuner in tuners]
        return self._in_effect.depend_on(used, *modes).get(
            "", lambda: [seam.in_effect() for seam in seams]
        )

    @torch.no_grad()
    def merged_weights(self) -> dict[str, Tensor]:
        """The host's state dict with the weights as its tuners change them, without the tuners.

        Raises:
            ValueError: if a tuner that is switched on does more than change weights.
        """
        for tuner in self.tuners.values():
            if tuner.enabled and not tuner.mergeable:
                tuner.merge()  # raises an error that says why
        training = self.training
        self.eval()  # as in :meth:`~mmsdpt.tuners.host_parameters.Merging.merge`
        with self.tuned():
            state = self.state_dict()  # type: ignore[attr-defined]
        self.train(training)
        return {name: value for name, value in state.items() if not name.startswith("tuners.")}

    def set_slot_enabled(self, slot: str, enabled: bool) -> None:
        """Switch a tuner on or off; if off, outputs are those without the tuner, bit for bit.

        Raises:
            ValueError: if it is off, and would act twice because it is merged, or before another
                tuner that is merged.
        """
        tuner = self._slot(slot)
        if enabled and not tuner.enabled:
            tuner.check_can_act()
        tuner.enabled = enabled

    def tuners_off(self, *slots: str) -> AbstractContextManager[None]:
        """Temporarily switch tuners off, by default all."""
        return self.switched(dict.fromkeys(slots or self.tuners, False))

    @contextmanager
    def switched(self, enabled: Mapping[str, bool]) -> Iterator[None]:
        """Temporarily switch the tuners of some slots on or off."""
        before = {slot: self._slot(slot).enabled for slot in enabled}
        try:
            for slot, on in enabled.items():
                self.set_slot_enabled(slot, on)
            yield
        finally:
            for slot, on in before.items():
                self.set_slot_enabled(slot, on)

    def _slot(self, slot: str) -> Any:
        if slot not in self.tuners:
            raise KeyError(
                f"no tuner slot {slot!r}; the slots of this model are:"
                f" {', '.join(self.tuners) or 'none'}"
            )
        return self.tuners[slot]


def _has_part(state: Mapping[str, Any], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in state)


@contextmanager
def _values_in_place(seams: Sequence[ParameterSeam], values: Sequence[Tensor]) -> Iterator[None]:
    """Temporarily give parameters other values."""
    before = [seam.value() for seam in seams]
    try:
        for seam, value in zip(seams, values, strict=True):
            seam.put(value)
        yield
    finally:
        for seam, value in zip(seams, before, strict=True):
            seam.put(value)


class _WithValues:
    """A function that runs with these values in place of the parameters."""

    def __init__(
        self,
        function: Callable[..., Any],
        seams: Sequence[ParameterSeam],
        values: Sequence[Tensor],
    ) -> None:
        self.function, self.seams, self.values = function, seams, values

    def __call__(self, *args: Any) -> Any:
        with _values_in_place(self.seams, self.values):
            return self.function(*args)


def _eval_frozen(module: nn.Module, keep: set[int], replaced: set[int]) -> None:
    """Put the largest submodules in which nothing trains into eval mode.

    Args:
        module: Its submodules are searched.
        keep: Modules to leave as they are, by id.
        replaced: Parameters that trained values replace, by id.
    """
    for child in module.children():
        if id(child) in keep:
            continue
        if not any(p.requires_grad or id(p) in replaced for p in child.parameters()):
            # A module without parameters follows its parent: dropout in a trainable block stays
            # active.
            if any(True for _ in child.parameters()):
                child.eval()
        else:
            _eval_frozen(child, keep, replaced)
