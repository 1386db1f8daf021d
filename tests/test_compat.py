"""Promises of mmsdpt.compat: clear sentences about versions, and MMDetection without compiled
operators.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import importlib.util
import inspect
import io
import logging
import pickle
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from mmsdpt import compat
from mmsdpt.compat import REQUIREMENTS, Requirement

ROOT = Path(__file__).parents[1]

MMCV = next(r for r in REQUIREMENTS if r.module == "mmcv")


@pytest.fixture
def versions(monkeypatch):
    """Versions of all required distributions as importlib.metadata tells them; None is not
    installed.
    """
    told: dict[str, str | None] = {
        name: importlib.metadata.version(name)
        for requirement in REQUIREMENTS
        for name in requirement.distributions
        if importlib.util.find_spec(requirement.module) and _is_installed(name)
    }

    def version(name: str) -> str:
        if told.get(name) is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return told[name]

    monkeypatch.setattr(compat.importlib.metadata, "version", version)
    return told


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_what_is_installed_passes(versions):
    compat.check_versions()


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.module)
def test_a_missing_package_is_one_sentence_with_the_command_to_install_it(versions, requirement):
    for name in requirement.distributions:
        versions[name] = None
    with pytest.raises(ImportError) as caught:
        compat.check_versions()
    wanted = f"{requirement.distributions[0]}{requirement.specifier}"
    assert str(caught.value) == (
        f"mmsdpt needs {wanted}, but {requirement.module} is not installed; "
        f'install it with: pip install "{wanted}"'
    )


def test_a_version_that_is_too_new_is_named_with_the_range_that_works(versions):
    (name,) = compat.installed_distributions(MMCV)
    versions[name] = "2.5.1"
    with pytest.raises(ImportError) as caught:
        compat.check_versions()
    message = str(caught.value)
    assert "mmcv 2.5.1 is installed" in message and "<2.4" in message and "\n" not in message


def test_every_problem_is_told_at_once(versions):
    versions["tokenizers"] = "0.13"
    versions["lvis"] = None
    with pytest.raises(ImportError) as caught:
        compat.check_versions()
    lines = str(caught.value).splitlines()
    assert [line.split()[2].split(">")[0] for line in lines] == ["tokenizers", "lvis"]


@pytest.mark.parametrize("version", ["2.1", "2.3.6", "2.3.6+local.7", "2.3.0rc1"])
def test_versions_and_labels_inside_the_range_pass(version):
    assert compat.version_problem(MMCV, version) is None


@pytest.mark.parametrize("version", ["2.0.9", "2.4.0", "2.4.0.dev0", "3.0", "unknown"])
def test_versions_outside_the_range_and_unreadable_ones_do_not_pass(version):
    assert version in compat.version_problem(MMCV, version)


def test_a_cuda_label_of_torch_passes():
    torch_requirement = next(r for r in REQUIREMENTS if r.module == "torch")
    assert compat.version_problem(torch_requirement, "2.11.0+cu130") is None


def test_another_distribution_of_the_same_package_counts(versions):
    versions["onedl-mmdetection"] = None
    versions["mmdet"] = "3.3.0"
    requirement = Requirement("mmdet", ("onedl-mmdetection", "mmdet"), ">=3.3,<3.6")
    assert compat.installed_version(requirement) == "3.3.0"
    compat.check_versions()


def plain_nms(
    boxes: torch.Tensor, scores: torch.Tensor, threshold: float, offset: int
) -> list[int]:
    """Oracle: boxes by falling score, each kept unless a kept one overlaps it by more than the
    threshold.
    """

    def area(x1, y1, x2, y2):
        return max(x2 - x1 + offset, 0.0) * max(y2 - y1 + offset, 0.0)

    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        a = boxes[i].tolist()
        overlaps = []
        for j in kept:
            b = boxes[j].tolist()
            shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
            overlaps.append(shared / (area(*a) + area(*b) - shared))
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(i)
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_nms_of_the_stand_in_equals_the_plain_form(offset, threshold):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 1 + torch.rand(60, 2, generator=generator) * 8], dim=1)
    scores = torch.rand(60, generator=generator)
    before = boxes.clone()
    kept = compat._ExtStandIn("mmcv._ext").nms(
        boxes, scores, iou_threshold=threshold, offset=offset
    )
    assert kept.tolist() == plain_nms(boxes, scores, threshold, offset)
    assert torch.equal(boxes, before), "the caller's boxes were changed"
    assert 1 < len(kept) < 60, "the example must suppress some boxes and keep some"


def test_the_offset_decides_where_boxes_touch():
    # Side by side: one pixel counts as shared with offset 1 (IoU 2/4 = 0.5 of 3-pixel boxes) and
    # none with 0.
    boxes, scores = (
        torch.tensor([[0.0, 0.0, 2.0, 0.5], [1.0, 0.0, 3.0, 0.5]]),
        torch.tensor([0.9, 0.8]),
    )
    nms = compat._ExtStandIn("mmcv._ext").nms
    assert nms(boxes, scores, iou_threshold=0.4, offset=0).tolist() == [0, 1]
    assert nms(boxes, scores, iou_threshold=0.4, offset=1).tolist() == [0]


def test_nms_of_no_boxes_is_empty():
    kept = compat._ExtStandIn("mmcv._ext").nms(
        torch.zeros(0, 4), torch.zeros(0), iou_threshold=0.5, offset=1
    )
    assert kept.shape == (0,) and kept.dtype == torch.int64


def test_other_operators_can_be_looked_up_and_explain_themselves_when_called():
    operator = compat._ExtStandIn("mmcv._ext").roi_align_forward
    with pytest.raises(
        NotImplementedError, match="'roi_align_forward' needs MMCV's compiled extension"
    ):
        operator(torch.zeros(1), aligned=True)


def test_the_stand_in_answers_no_dunder_names_and_looks_like_a_module():
    stand_in = compat._ExtStandIn("mmcv._ext")
    assert not hasattr(stand_in, "__wrapped__") and not hasattr(stand_in, "__path__")
    assert inspect.unwrap(stand_in) is stand_in
    assert inspect.ismodule(stand_in)
    for duplicate in (copy.copy, pickle.dumps):  # refused as for any module, without recursion
        with pytest.raises(TypeError, match="cannot pickle"):
            duplicate(stand_in)


@pytest.fixture
def fresh_ext(monkeypatch):
    """mmcv as if mmsdpt had not been imported yet; what was there comes back afterwards."""
    import mmcv

    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.delattr(mmcv, "_ext", raising=False)
    yield mmcv
    sys.modules.pop("mmcv._ext", None)


def _install_ext(folder, source: str, mmcv: types.ModuleType, monkeypatch) -> None:
    (folder / "_ext.py").write_text(source)
    monkeypatch.setattr(mmcv, "__path__", [str(folder)])


def test_a_real_extension_is_left_alone(fresh_ext, tmp_path, monkeypatch):
    _install_ext(tmp_path, "def nms():\n    return 'compiled'\n", fresh_ext, monkeypatch)
    compat.ensure_mmcv_ext()
    assert sys.modules["mmcv._ext"].nms() == "compiled"
    assert compat.has_compiled_ops()


@pytest.mark.parametrize(
    "error", ["ImportError('undefined symbol: _ZN3c10')", "OSError('libc10.so: no such file')"]
)
def test_a_broken_extension_is_replaced_with_a_warning(fresh_ext, tmp_path, monkeypatch, error):
    _install_ext(tmp_path, f"raise {error}\n", fresh_ext, monkeypatch)
    with pytest.warns(UserWarning, match="cannot be loaded .*continues without compiled operators"):
        compat.ensure_mmcv_ext()
    assert isinstance(sys.modules["mmcv._ext"], compat._ExtStandIn)
    assert fresh_ext._ext is sys.modules["mmcv._ext"]
    assert not compat.has_compiled_ops()


def test_without_an_extension_the_stand_in_is_put_in_place_and_mmcv_knows(
    fresh_ext, tmp_path, monkeypatch
):
    monkeypatch.setattr(fresh_ext, "__path__", [str(tmp_path)])
    compat.ensure_mmcv_ext()
    first = sys.modules["mmcv._ext"]
    assert isinstance(first, compat._ExtStandIn)
    compat.ensure_mmcv_ext()
    assert sys.modules["mmcv._ext"] is first, "a second call must change nothing"
    spec = importlib.util.find_spec("mmcv._ext")
    assert spec is not None and spec.loader is None, (
        "a spec without loader is how MMCV learns there are no operators"
    )


def test_opencv_that_cannot_be_loaded_is_one_sentence_with_the_remedy(monkeypatch):
    """Told when MMCV is imported, in an interpreter where OpenCV lacks a system library."""
    program = (
        "import sys, importlib.abc, mmsdpt\n"
        "class Broken(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'cv2':\n"
        "            raise ImportError('libGL.so.1: cannot open shared object file')\n"
        "sys.meta_path.insert(0, Broken())\n"
        "import mmcv\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "libGL.so.1" in last and "opencv-python-headless" in last


def test_two_distributions_of_one_package_are_refused_with_the_commands_that_mend_it(versions):
    assert compat.two_stacks_problem() is None
    versions.update({"mmdet": "3.3.0", "onedl-mmdetection": "3.5.1"})
    with pytest.raises(ImportError) as caught:
        compat.check_versions()
    assert str(caught.value) == (
        "packages that overwrite each other's files are both installed (onedl-mmdetection and"
        " mmdet); keep one of each: pip uninstall -y onedl-mmdetection mmdet && pip install"
        ' "onedl-mmdetection>=3.3,<3.6"'
    )


def test_mmdet_models_can_be_imported_after_mmsdpt_in_a_new_interpreter():
    program = (
        "import mmsdpt, mmdet.models, mmcv.ops, torch\n"
        "import mmdet.datasets, mmpretrain.datasets\n"
        "from mmcv.utils.ext_loader import check_ops_exist\n"
        "from mmsdpt.compat import has_compiled_ops\n"
        "assert check_ops_exist() == has_compiled_ops()\n"
        "mmcv.ops.get_compiler_version()\n"
        "boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.], [20., 0., 29., 9.]])\n"
        "assert mmcv.ops.nms(boxes, torch.tensor([.5, .9, .7]), .5)[1].tolist() == [1, 2]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "the toolboxes said something that nobody can do anything about"


def test_both_hosts_are_there_without_transformers():
    program = (
        "import importlib.metadata, importlib.util, sys\n"
        "def hide_transformers(metadata):\n"
        "    real = metadata.distribution\n"
        "    def distribution(name):\n"
        "        if name == 'transformers':\n"
        "            raise metadata.PackageNotFoundError(name)\n"
        "        return real(name)\n"
        "    metadata.distribution = distribution\n"
        "hide_transformers(importlib.metadata)\n"
        # OpenMMLab's own MMPreTrain reads the package for older Pythons.
        "if importlib.util.find_spec('importlib_metadata'):\n"
        "    hide_transformers(importlib.import_module('importlib_metadata'))\n"
        "sys.modules['transformers'] = None\n"  # importing it fails
        "import mmsdpt\n"
        "from mmengine.config import Config\n"
        "from mmengine.registry import init_default_scope\n"
        "from mmsdpt.registry import MODELS\n"
        "import mmsdpt.hosts.clip, mmsdpt.hosts.glip, mmpretrain.models\n"
        "for scope, name in (('mmdet', 'mini_glip'), ('mmpretrain', 'mini_clip')):\n"
        "    init_default_scope(scope)\n"
        "    MODELS.build(Config.fromfile(f'configs/_base_/models/{name}.py').model)\n"
        "assert mmpretrain.registry.MODELS.get('CLIPTransformer') is not None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("mmpretrain", "transformers", "imported"),
    [
        ("onedl-mmpretrain", "4.57.6", True),
        ("onedl-mmpretrain", "5.0.0", False),
        ("mmpretrain", "4.51.3", True),
        ("mmpretrain", "4.52.0", False),
    ],
)
def test_multi_modal_models_are_left_out_where_transformers_is_too_new_for_them(
    versions, mmpretrain, transformers, imported
):
    versions.update({"onedl-mmpretrain": None, "mmpretrain": None})
    versions.update({mmpretrain: "1.2.0", "transformers": transformers})
    dependency = types.SimpleNamespace(
        WITH_MULTIMODAL=True, register_multimodal_placeholder=lambda names, registry: None
    )
    compat.ensure_clip_without_transformers(dependency)
    assert dependency.WITH_MULTIMODAL is imported


def test_only_the_lines_that_begin_with_the_noise_are_dropped():
    screen = io.StringIO()
    with contextlib.redirect_stdout(compat._WithoutLines(screen, "Could not import OneDL")):
        print("first")
        print("Could not import OneDL. Skipping OneDL datasets.")
        print("Could not import something else")
        sys.stdout.write("Could not import OneDL\nlast\n\n")
        assert sys.stdout.getvalue() == screen.getvalue(), "it is the screen in all other respects"
    assert screen.getvalue() == "first\nCould not import something else\nlast\n\n"


def test_a_missing_pre_training_is_noise_only_where_base_weights_are_loaded():
    def passes(message: str, has_base: bool) -> bool:
        record = logging.LogRecord("mmengine", logging.WARNING, "", 0, message, None, None)
        return compat.NoiseFilter(has_base).filter(record)

    untrained = "No pre-trained weights for SwinTransformer, training start from scratch"
    assert passes(untrained, has_base=False) and not passes(untrained, has_base=True)
    assert not passes('"FileClient" will be deprecated in future.', has_base=False)
    assert passes("the loss is nan", has_base=True)
