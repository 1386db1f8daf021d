"""Read the tensors of a TorchScript archive without running its code."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mmsdpt.utils.errors import CheckpointError, first_line


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a zip archive is one of ``torch.jit.save``."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(archive: zipfile.ZipFile, origin: str) -> dict[str, Tensor]:
    """Tensors of a TorchScript archive by their path in the module tree.

    ``torch.jit.load`` would compile the archive's code and run its ``__setstate__`` methods, and
    TorchScript is deprecated. The tensors need neither: they are in a pickle of nested attribute
    dicts, whose classes are replaced by an inert record here.

    Raises:
        CheckpointError: if it cannot be read that way.
    """
    try:
        pickled = next(
            name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)
        )
        root = _ArchiveUnpickler(archive, pickled).load()
        return dict(_tensors_of(root, ""))
    except Exception as error:  # a damaged pickle may raise any exception
        raise CheckpointError(
            f"{origin} cannot be read as a TorchScript archive ({first_line(error)})"
        ) from None


class _Record:
    """Replaces an object of any class and has only its attributes."""

    attributes: Mapping[str, object] = MappingProxyType({})

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _ArchiveUnpickler(pickle.Unpickler):
    """Reads tensors and records; no name in the pickle is ever imported or called."""

    _DTYPES = {
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
    }

    def __init__(self, archive: zipfile.ZipFile, pickled: str) -> None:
        super().__init__(io.BytesIO(_stored(archive, pickled)))
        self._archive = archive
        self._folder = pickled.removesuffix(".pkl")
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided
        if module == "torch" and name in self._DTYPES:
            return self._DTYPES[name]
        return _Record

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self._storages:
            data = bytearray(_stored(self._archive, f"{self._folder}/{key}"))
            self._storages[key] = (
                torch.frombuffer(data, dtype=dtype, count=count)
                if count
                else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read an uncompressed file of the archive. A compressed one could unpack to any size."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def _strided(storage: Tensor, offset: int, size: tuple, stride: tuple, *unused: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors_of(record: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(record, Tensor):
        yield prefix, record
    elif isinstance(record, _Record):
        for name, value in record.attributes.items():
            yield from _tensors_of(value, f"{prefix}.{name}" if prefix else name)
