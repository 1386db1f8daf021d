"""The base class of all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmsdpt.hosts.seams import ParameterSeam, Seam
from mmsdpt.utils.class_names import rows_by_name
from mmsdpt.utils.errors import InputError

from .layers.common import key_of

Seams = Mapping[str, Sequence[Seam]]
"""A host's seams by kind."""


class Tuner(BaseModule):
    """A parameter-efficient method: it owns its trained parameters and acts at a host's seams.

    A subclass lists the kinds of seams that it :attr:`needs`. Its constructor creates the
    parameters from the seams' widths and connects its handlers to the seams. The host builds it
    under ``tuners.<slot>``: ``model=dict(type='mmsdpt.GLIP', tuner=dict(type='mmsdpt.SDPT',
    num_tokens=10))``.

    Args:
        seams: The host's seams by kind.
        frozen: Do not train this tuner, so that another one can be stacked on it.

    Raises:
        ValueError: if the host lacks a kind of seam that the method needs.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Kinds of seams without which the method cannot work."""
    mergeable: ClassVar[bool] = False
    """Whether :meth:`merge` can write the tuner into the host's weights."""
    zero_init: ClassVar[bool] = False
    """Whether the model with the untrained tuner equals the untuned one bit for bit."""
    image_depends_on_text: ClassVar[bool] = False
    """Whether the image features depend on the caption; each chunk of a class list then needs its
    own.
    """

    image_blocks_read_text: ClassVar[bool] = False
    """Whether it needs the encoded text inside the image encoder, not only after it."""
    text_depends_on_image: ClassVar[bool] = False
    """Whether the class texts depend on the image."""
    remembers_classes: bool = False
    """Whether its effect depends on the classes it was trained on, which a tuner file contains."""
    own_words_only: bool = False
    """Whether it acts only on words of classes that it was trained on, see :class:`SDPT`."""
    settings: ClassVar[tuple[str, ...]]
    """Attributes that define the meaning of the parameters: they must equal those of a file."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Maps a setting's name in files of older versions to its present name."""
    added: ClassVar[Mapping[str, Any]] = {}
    """Settings of :meth:`config` that older versions did not write, and their fixed values then."""

    def __init__(
        self,
        *,
        seams: Seams,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.frozen = frozen
        self.enabled = True
        self.trained_classes: tuple[str, ...] = ()
        self.host_seams: list[ParameterSeam] = []
        self._ready = False
        for kind in self.needs:
            if kind not in seams:
                hint = getattr(seams, "hints", {}).get(kind)
                raise ValueError(
                    f"{type(self).__name__} needs '{kind}' seams, and"
                    f" {getattr(seams, 'host', 'this host')} has"
                    f" {', '.join(sorted(seams)) or 'none'}" + (f"; {hint}" if hint else "")
                )

    @property
    def per_class(self) -> bool:
        """Whether each class has its own parameters, so the tuner works only for these classes."""
        return False

    def class_rows(self, names: Sequence[str]) -> list[int] | None:
        """For a method with parameters for each class: the row of every class, by its name.

        Training stores the classes in ``trained_classes``; loading a tuner file sets them, too.

        Args:
            names: The classes in use.

        Returns:
            A row for each name; None if the rows already have the order of the names.

        Raises:
            InputError: if a class was not trained.
        """
        names = tuple(names)
        if not self.trained_classes and self.training:
            self.trained_classes = names
        if not self.trained_classes or names == self.trained_classes:
            return None
        try:
            return rows_by_name(self.trained_classes, names)
        except InputError as error:
            raise InputError(f"{type(self).__name__} {error}") from None

    def start_from_host(self) -> None:
        """Set the parameters that start from the host's weights, in place.

        Called once, before the first forward pass, when the base weights are loaded. Not called if
        the tuner's own state was loaded.
        """

    @torch.no_grad()
    def prepare(self) -> None:
        """Called by the host at the start of every forward pass."""
        if not self._ready:
            self.start_from_host()
            self._ready = True

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        # A host also calls this to load its base weights, which have nothing for the tuner.
        if any(name.startswith(prefix) for name in state_dict):
            self._ready = True
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def keep_host_values(self, values: Mapping[ParameterSeam, Tensor]) -> None:
        """Use these values for the host's parameters that trained together with the tuner, while it
        is switched on. They replace those of an earlier call and are not part of the tuner's state.
        """
        for seam in self.host_seams:
            self._buffers[_host_buffer(seam)] = None
        for seam, value in values.items():
            self.register_buffer(_host_buffer(seam), value, persistent=False)
            if seam not in self.host_seams:
                self.host_seams.append(seam)
                seam.connect_value(self, self._host_value)

    def host_values(self) -> dict[str, Tensor]:
        """The values given to :meth:`keep_host_values`, by parameter name."""
        values = {seam.name: self._buffers[_host_buffer(seam)] for seam in self.host_seams}
        return {name: value for name, value in values.items() if value is not None}

    def _host_value(self, seam: ParameterSeam, value: Tensor) -> Tensor:
        own = self._buffers[_host_buffer(seam)]
        return value if own is None else own

    def config(self) -> dict[str, Any]:
        """The :attr:`settings` and their values, as JSON types."""
        values = {name.rpartition(".")[2]: attrgetter(name)(self) for name in self.settings}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def reconcile(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a file as this model would write them: those that older versions did not
        write are added, and those that :meth:`adopt` takes over get the model's own value.
        """
        return {**self.added, **{self.renamed.get(name, name): v for name, v in config.items()}}

    def adopt(self, config: Mapping[str, Any]) -> None:
        """Called with the settings of a file when its tensors are loaded. Takes over those that the
        file decides, whatever the model was built with.
        """

    def num_trainable(self) -> int:
        """Number of its parameters; a hook checks at the start that all of them train."""
        return sum(parameter.numel() for parameter in self.parameters())

    def merge(self) -> None:
        """Write the tuner into the host's weights and switch it off.

        Raises:
            ValueError: if no weights of the host have the same effect.
        """
        raise ValueError(
            f"{type(self).__name__} cannot be merged: it does not act as a change of the host's"
            " weights"
        )

    def unmerge(self) -> None:
        """Undo :meth:`merge`.

        Raises:
            ValueError: if the tuner is not merged.
        """
        raise ValueError(f"{type(self).__name__} is not merged")

    @property
    def merged(self) -> bool:
        """Whether it is written into the host's weights; see :meth:`merge`."""
        return False

    def check_can_act(self) -> None:
        """Called before the tuner is switched on.

        Raises:
            ValueError: if the host's weights have changes of merged tuners with which its own
                effect would be wrong.
        """


def _host_buffer(seam: ParameterSeam) -> str:
    return f"host_{key_of(seam.name)}"
