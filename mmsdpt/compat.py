"""Everything that depends on the versions of other packages, in one place.

It does three things: report missing or incompatible packages in one sentence; make MMDetection
importable if MMCV has no compiled extension or transformers is too new for MMPreTrain; and hide
messages that a user can do nothing about. The second is needed because plain pip builds MMCV
without ``mmcv._ext`` while ``mmdet.models`` imports ``mmcv.ops`` unguarded, and because MMDetection
imports MMPreTrain, whose multi-modal models are written for transformers below 5.

Nothing here imports the packages: versions are read from their metadata, and the toolboxes are
patched when they are imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any, TextIO, cast

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Requirement:
    """A required package.

    Args:
        module: import name.
        distributions: names under which it is published; the first is installed by default.
        specifier: versions that work.
    """

    module: str
    distributions: tuple[str, ...]
    specifier: str

    @property
    def wanted(self) -> str:
        """The requirement as pip reads it."""
        return f"{self.distributions[0]}{self.specifier}"


# setup.py installs the same ranges (tests/test_packaging.py compares them). Those of the OpenMMLab
# packages begin with OpenMMLab's own last releases (mmcv 2.1.0, mmdet 3.3.0, mmpretrain 1.2.0).
REQUIREMENTS = (
    Requirement("torch", ("torch",), ">=2.5"),
    Requirement("torchvision", ("torchvision",), ">=0.20"),
    Requirement("mmengine", ("onedl-mmengine", "mmengine"), ">=0.10.4,<0.11"),
    Requirement("mmcv", ("onedl-mmcv", "mmcv"), ">=2.1,<2.4"),
    Requirement("mmdet", ("onedl-mmdetection", "mmdet"), ">=3.3,<3.6"),
    Requirement("mmpretrain", ("onedl-mmpretrain", "mmpretrain"), ">=1.2,<1.4"),
    Requirement("tokenizers", ("tokenizers",), ">=0.20"),
    Requirement("pycocotools", ("pycocotools",), ">=2.0.7"),
    Requirement("lvis", ("lvis",), ">=0.5.3"),
    Requirement("safetensors", ("safetensors",), ">=0.4.3"),
    Requirement("sklearn", ("scikit-learn",), ">=1.3"),
)


def installed_distributions(requirement: Requirement) -> dict[str, str]:
    """Name and version of each installed distribution of ``requirement``."""
    found = {}
    for name in requirement.distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def installed_version(requirement: Requirement) -> str | None:
    """Version of the first installed distribution of ``requirement``, or None."""
    return next(iter(installed_distributions(requirement).values()), None)


def two_stacks_problem() -> str | None:
    """One sentence if OneDL's and OpenMMLab's packages of the same import name are both installed,
    with the commands that keep OneDL's; else None.

    Both write the same files, so Python imports a mixture of the two. Removing one removes files of
    the other, so both must be uninstalled before one is installed again.
    """
    doubled = [r for r in REQUIREMENTS if len(installed_distributions(r)) > 1]
    if not doubled:
        return None
    names = " ".join(name for r in doubled for name in r.distributions)
    wanted = " ".join(f'"{r.wanted}"' for r in doubled)
    pairs = ", ".join(" and ".join(r.distributions) for r in doubled)
    return (
        f"packages that overwrite each other's files are both installed ({pairs}); keep one of"
        f" each: pip uninstall -y {names} && pip install {wanted}"
    )


def version_problem(requirement: Requirement, version: str | None) -> str | None:
    """One sentence with the problem and what to install, or None if ``version`` is fine."""
    advice = f'install it with: pip install "{requirement.wanted}"'
    if version is None:
        return (
            f"mmsdpt needs {requirement.wanted}, but {requirement.module} is not installed;"
            f" {advice}"
        )
    try:
        # Labels such as 2.11.0+cu130 or 4.54.0.dev0 count as the release they belong to.
        fits = SpecifierSet(requirement.specifier).contains(Version(version).base_version)
    except InvalidVersion:
        fits = False
    if fits:
        return None
    return (
        f"mmsdpt needs {requirement.wanted}, but {requirement.module} {version} is installed;"
        f" {advice}"
    )


def _package_is_only_being_located() -> bool:
    """Whether mmsdpt is imported only because Python looks for the module of ``python -m
    mmsdpt.doctor``.

    The doctor reports what the checks below raise, so they must not stop Python before it gets
    there. While Python locates the module of ``-m``, and only then, ``sys.argv[0]`` is "-m" (see
    Python's sys.argv).
    """
    return sys.argv[:1] == ["-m"] and "mmsdpt.doctor" in sys.orig_argv


def check_versions() -> None:
    """Check the packages that mmsdpt builds on.

    Raises:
        ImportError: one sentence per package that is missing or outside the range that works, and
            one where two distributions of the same package are installed.
    """
    if _package_is_only_being_located():
        return
    found = [version_problem(r, installed_version(r)) for r in REQUIREMENTS]
    if problems := [problem for problem in (two_stacks_problem(), *found) if problem]:
        raise ImportError("\n".join(problems))


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """``mmcv._ext.nms`` by torchvision: (N, 4) and (N,) to indices of the boxes to keep, best
    first.

    With ``offset=1`` a box from x1 to x2 is x2 - x1 + 1 pixels wide, which is the same as moving x2
    and y2 by one.
    """
    from torchvision.ops import nms

    if offset:
        boxes = boxes.clone()
        boxes[:, 2:] += offset
    return nms(boxes, scores, iou_threshold)


def _not_compiled() -> str:
    """``mmcv._ext.get_compiler_version`` and its CUDA counterpart, for reports of the
    environment.
    """
    return "not available (MMCV without compiled operators)"


def _missing_op(name: str) -> Callable[..., None]:
    def op(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f"'{name}' needs MMCV's compiled extension, but MMCV was installed without it;"
            " mmsdpt does not use this operator: install an MMCV with compiled ops if your own"
            " code does."
        )

    op.__name__ = name
    return op


class _ExtStandIn(types.ModuleType):
    """Replaces ``mmcv._ext``: nms works, every other operator raises an explanation when called."""

    nms = staticmethod(_nms)
    get_compiler_version = staticmethod(_not_compiled)
    get_compiling_cuda_version = staticmethod(_not_compiled)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):  # so that inspect, copy and pickle see an ordinary module
            raise AttributeError(name)
        return _missing_op(name)


def has_compiled_ops() -> bool:
    """Whether MMCV's own compiled operators are in use."""
    return not isinstance(sys.modules.get("mmcv._ext"), _ExtStandIn) and _import_ext()


def _import_ext() -> bool:
    if importlib.util.find_spec("mmcv._ext") is None:
        return False
    try:
        importlib.import_module("mmcv._ext")
    except (ImportError, OSError) as error:
        # A wheel taken from pip's cache may hold an extension that was compiled against another
        # torch.
        warnings.warn(
            f"mmcv._ext exists but cannot be loaded ({error}); mmsdpt continues without compiled"
            " operators.",
            stacklevel=3,
        )
        return False
    return True


def _check_opencv() -> None:
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        raise ImportError(
            f"MMCV needs OpenCV, which cannot be loaded ({error}); if a system library is missing,"
            " install the build that needs none: pip install --force-reinstall --no-deps"
            ' "opencv-python-headless<4.13"'
        ) from error


def ensure_mmcv_ext() -> None:
    """Install the replacement of ``mmcv._ext`` only if MMCV has no loadable compiled extension.

    Must run after ``mmcv`` and before ``mmcv.ops`` or ``mmdet.models`` is imported: see
    :func:`mend_toolboxes`.
    """
    if "mmcv._ext" in sys.modules or _import_ext():
        return
    import mmcv

    module = _ExtStandIn("mmcv._ext")
    # No loader: MMCV's check_ops_exist() then answers False, and find_spec() an ordinary spec.
    module.__spec__ = ModuleSpec("mmcv._ext", loader=None)
    sys.modules["mmcv._ext"] = module
    mmcv._ext = module


# The version of transformers that removed something which MMPreTrain's multi-modal models import.
_REMOVED_IN = {"onedl-mmpretrain": (5,), "mmpretrain": (4, 52)}


def ensure_clip_without_transformers(dependency: Any) -> None:
    """Make MMPreTrain's CLIP importable if its other multi-modal models are not.

    Those import names of transformers that later versions removed. MMPreTrain then registers
    placeholders for all of them, including CLIP, which does not need transformers and whose layers
    are part of our host.

    Args:
        dependency: ``mmpretrain.utils.dependency``, before anything has read it.
    """
    try:
        version = Version(importlib.metadata.version("transformers"))
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        version = None
    mmpretrain = next(r for r in REQUIREMENTS if r.module == "mmpretrain")
    removed = min(_REMOVED_IN[name] for name in installed_distributions(mmpretrain))
    if version is not None and version.release >= removed:
        dependency.WITH_MULTIMODAL = False
    register = dependency.register_multimodal_placeholder

    def register_all_but_clip(names: Sequence[str], registry: object) -> None:
        register([name for name in names if name not in ("CLIP", "CLIPZeroShot")], registry)

    dependency.register_multimodal_placeholder = register_all_but_clip


class _Loader(Loader):
    """Imports a module with its own loader, in the context that the module needs."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        if module.__name__ == "mmcv":
            _check_opencv()
            self.loader.exec_module(module)
            ensure_mmcv_ext()
        elif module.__name__ == "mmpretrain.utils.dependency":
            self.loader.exec_module(module)
            ensure_clip_without_transformers(module)
        else:
            with redirect_stdout(cast(TextIO, _WithoutLines(sys.stdout, "Could not import OneDL"))):
                self.loader.exec_module(module)


class _WithoutLines:
    """A stream that drops lines with a given beginning."""

    def __init__(self, stream: TextIO, beginning: str) -> None:
        self.stream, self.beginning, self.dropped = stream, beginning, False

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            # print() writes the end of a line by itself.
            if line.startswith(self.beginning):
                self.dropped = not line.endswith("\n")
            elif self.dropped and line == "\n":
                self.dropped = False
            else:
                self.stream.write(line)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Finder(MetaPathFinder):
    """Finds modules like the other finders, and lets :class:`_Loader` load them."""

    # The datasets print that the fork's training platform is not installed.
    names = (
        "mmcv",
        "mmdet.datasets",
        "mmdet.datasets.transforms",
        "mmpretrain.datasets",
        "mmpretrain.utils.dependency",
    )

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        return None


def mend_toolboxes() -> None:
    """Call :func:`ensure_mmcv_ext` when MMCV is imported (now if it already is) and
    :func:`ensure_clip_without_transformers` when MMPreTrain is, and hide messages of the toolboxes
    that a user can do nothing about.

    If OpenCV cannot be loaded, importing MMCV then raises an ImportError with the fix.
    """
    if "mmcv" in sys.modules:
        ensure_mmcv_ext()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    # Captions are too short for tokenizing in threads, and after it every worker of a data loader
    # would warn that it was forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # About MMDetection's optional faster COCO metric.
    warnings.filterwarnings("ignore", "faster_coco_eval is not installed", UserWarning)
    # MMDetection's proposals of Grounding DINO.
    warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)
    # OpenMMLab's own MMEngine imports it, where a config names another package's.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
    # About the sparse products of mmsdpt.hosts.glip.deform_sampling.
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)


class NoiseFilter(logging.Filter):
    """Drops messages of the toolboxes that do not concern the run.

    Args:
        has_base: Whether the run loads base weights. If so, warnings about modules without
            pre-trained weights are dropped, too.
    """

    about_themselves = (
        '"FileClient" will be deprecated',
        '"HardDiskBackend" is the alias',
        "Distributed training is not used, all SyncBatchNorm",
        "Resumed iteration number is not divisible by",  # the runner warns about it
    )
    about_weights = ("No pre-trained weights for", "The language model ")

    def __init__(self, has_base: bool) -> None:
        super().__init__()
        self.beginnings = self.about_themselves + (self.about_weights if has_base else ())

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginnings)


def mend_lvis() -> None:
    """Make lvis 0.5.3 work: it uses ``np.float``, which NumPy removed in 1.24."""
    import lvis.eval
    import numpy

    if not hasattr(lvis.eval.np, "float"):
        own = types.ModuleType("numpy")
        own.__dict__.update(numpy.__dict__, float=float)
        lvis.eval.np = own
