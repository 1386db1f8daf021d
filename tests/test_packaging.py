"""Promises of setup.py, the constraints, the Makefile and the licence."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import setuptools
import yaml
from mmengine.utils import get_installed_path
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mmsdpt
from mmsdpt.compat import REQUIREMENTS
from mmsdpt.utils.base_weights import SAFE_TORCH
from mmsdpt.utils.cli import read_config_file

ROOT = Path(__file__).parents[1]
# Where the import name is not the name of the distribution.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmengine": "onedl-mmengine",
    "mmpretrain": "onedl-mmpretrain",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


@pytest.fixture(scope="module")
def arguments() -> dict:
    """What setup.py gives to setuptools."""
    caught: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **given: caught.update(given))
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    return caught


@pytest.fixture(scope="module")
def required(arguments) -> dict[str, Requirement]:
    found = map(Requirement, arguments["install_requires"])
    return {canonicalize_name(r.name): r for r in found}


def constraints() -> list[Requirement]:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_version_is_that_of_the_package(arguments):
    assert arguments["version"] == mmsdpt.__version__


def test_setup_installs_the_ranges_that_compat_checks(required):
    for requirement in REQUIREMENTS:
        declared = required[canonicalize_name(requirement.distributions[0])]
        if requirement.module == "torch":  # older ones work, and read no .pth files
            assert str(declared.specifier) == f">={SAFE_TORCH}"
        elif requirement.module != "torchvision":
            assert declared.specifier == Requirement(requirement.wanted).specifier, declared


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_requirement_has_one_tested_version_inside_its_range(arguments, python):
    pins = [
        c
        for c in constraints()
        if c.marker is None or c.marker.evaluate({"python_version": python})
    ]
    names = [canonicalize_name(c.name) for c in pins]
    assert len(names) == len(set(names)), "a package has two pins"
    by_name = dict(zip(names, pins, strict=True))
    extras = arguments["extras_require"]
    tested = ("experiments", "onnx", "web", "tests", "lint")
    wanted = [text for name in tested for text in extras[name]]
    for text in [*arguments["install_requires"], *wanted]:
        requirement = Requirement(text)
        (pin,) = by_name[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(Version(pin.version)), (
            f"{pin} is outside {requirement}"
        )


def imports(folder: Path) -> Iterator[tuple[str, Path]]:
    """Top-level names that the Python files in ``folder`` import, with the file."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield str(node.module).split(".")[0], path


@pytest.mark.parametrize("folder", ["mmsdpt", "tools", "projects"])
def test_every_imported_package_is_declared(folder, arguments, required):
    optional = {  # by the folder of the package that may use it
        "experiments": arguments["extras_require"]["experiments"],
        "apis": arguments["extras_require"]["supervision"],
        "evaluation": arguments["extras_require"]["fast-eval"],
        "export": arguments["extras_require"]["onnx"],
        "web_demo": arguments["extras_require"]["web"],
    }
    for name, path in imports(ROOT / folder):
        beside = (path.parent / f"{name}.py").exists() or (
            path.parent / name
        ).is_dir()  # scripts import these
        if name in sys.stdlib_module_names or name == "mmsdpt":
            continue
        # The package imports nothing from projects; they and the tools may.
        if folder != "mmsdpt" and (name == "projects" or beside):
            continue
        distribution = canonicalize_name(DISTRIBUTIONS.get(name, name))
        allowed = set(required)
        texts = optional.get(path.parent.name, ())
        allowed |= {canonicalize_name(Requirement(text).name) for text in texts}
        assert distribution in allowed, f"{path} imports {name}, which setup.py does not declare"


# Each imports from those to its left alone.
ORDER = (
    "version compat registry utils datasets evaluation hosts tuners visualization engine apis"
    " experiments analysis export convert_tool doctor"
).split()


def test_imports_run_one_way():
    parts = [path for path in (ROOT / "mmsdpt").glob("[a-z]*") if path.suffix in ("", ".py")]
    rooms = {path.stem for path in parts} - {"assets"}
    assert rooms == set(ORDER)
    for path in sorted((ROOT / "mmsdpt").rglob("*.py")):
        parts = path.relative_to(ROOT / "mmsdpt").parts
        room = parts[0].removesuffix(".py")
        if room not in rooms:  # the package itself, and what setup.py links for MIM
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name.split(".") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = ["mmsdpt", *parts[: -node.level]] if node.level else []
                base += node.module.split(".") if node.module else []
                names = [[*base, alias.name] for alias in node.names]
            else:
                continue
            for name in names:
                if name[0] == "mmsdpt" and len(name) > 1 and name[1] in rooms - {room}:
                    imported = ".".join(name)
                    assert ORDER.index(name[1]) < ORDER.index(room), f"{path} imports {imported}"


def test_assets_and_all_packages_are_in_the_wheel(tmp_path):
    # Without the network: with the setuptools of this environment, as pip's --no-build-isolation
    # does.
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path)]
    copy = tmp_path / "source"
    copy.mkdir()
    files = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "model-index.yml")
    for name in files:
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for name in ("mmsdpt", "configs", "tools"):
        (copy / name).symlink_to(ROOT / name, target_is_directory=True)
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("mmsdpt-*.whl")
    packed = set(ZipFile(wheel).namelist())
    source = ROOT / "mmsdpt"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in source.rglob("*")
        if path.is_file() and (path.suffix == ".py" or source / "assets" in path.parents)
    }
    for folder, kinds in (("configs", (".py", ".yml")), ("tools", (".py",))):
        paths = [path for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
        assert paths
        wanted |= {f"mmsdpt/.mim/{path.relative_to(ROOT).as_posix()}" for path in paths}
    wanted |= {"mmsdpt/.mim/model-index.yml", "mmsdpt/datasets/detection_benchmarks.yaml"}
    assert wanted and wanted <= packed, sorted(wanted - packed)
    assert any(name.endswith("LICENSE") for name in packed)
    assert not any("__pycache__" in name for name in packed)


def test_an_editable_installation_is_found_where_a_folder_has_its_name(tmp_path):
    """Beside a clone, say: without a path of its own the folder would be the package."""
    copy, site = tmp_path / "source", tmp_path / "site"
    (copy / "mmsdpt").mkdir(parents=True)
    (copy / "mmsdpt" / "__init__.py").write_text("")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "mmsdpt/version.py"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("mmsdpt-*.whl")
    ZipFile(wheel).extractall(site)
    (tmp_path / "work" / "mmsdpt").mkdir(parents=True)
    find = "import site, sys; site.addsitedir(sys.argv[1]); import mmsdpt; print(mmsdpt.__file__)"
    command = [sys.executable, "-E", "-S", "-c", find, str(site)]
    done = subprocess.run(command, cwd=tmp_path / "work", capture_output=True, text=True)
    assert done.stdout.strip() == str(copy / "mmsdpt" / "__init__.py"), done.stderr


def test_a_config_inherits_from_the_wheel(tmp_path):
    """As another package's, by scope, from a folder that holds nothing else."""
    site = tmp_path / "site" / "mmsdpt"
    (site / ".mim").mkdir(parents=True)
    (site / "__init__.py").write_text("")
    (site / ".mim" / "configs").symlink_to(ROOT / "configs")
    (site / ".mim" / "model-index.yml").symlink_to(ROOT / "model-index.yml")
    elsewhere = get_installed_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mmengine.config.config.get_installed_path",
            lambda package: str(site) if package == "mmsdpt" else elsewhere(package),
        )
        patch.setattr("mmengine.config.config.is_installed", lambda package: True)
        for name in ("sdpt/glip_l_coco_k10.py", "mini/sdpt_mini_raccoon.py"):
            mine, by_path = tmp_path / "mine.py", tmp_path / "by_path.py"
            more = "train_cfg = dict(max_epochs=3)\n"
            mine.write_text(f'_base_ = "mmsdpt::{name}"\n{more}')
            by_path.write_text(f'_base_ = "{ROOT}/configs/{name}"\n{more}')
            found = [
                read_config_file(path, import_custom_modules=False) for path in (mine, by_path)
            ]
            assert found[0].to_dict() == found[1].to_dict(), name


def test_the_index_of_models_names_what_is_there():
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    listed = set()
    for path in index["Import"]:
        content = yaml.safe_load((ROOT / path).read_text())
        collections = {each["Name"] for each in content["Collections"]}
        assert all((ROOT / each["README"]).is_file() for each in content["Collections"])
        for model in content["Models"]:
            assert (ROOT / model["Config"]).is_file() and model["In Collection"] in collections
            listed.add(model["Config"])
    for folder in ("sdpt", "mudpt"):
        there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "configs" / folder).glob("*.py")}
        assert there <= listed, sorted(there - listed)


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["make", "--no-print-directory", "-C", str(ROOT), *arguments]
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        command, capture_output=True, text=True, env=clean | environment, timeout=60
    )


def test_make_without_a_target_lists_the_targets():
    shown = make().stdout
    for target in ("demo", "test", "lint", "install", "clean", "help"):
        assert f"make {target} " in shown


def test_an_unusable_interpreter_is_refused_with_one_sentence(tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make("install", f"VENV={tmp_path}/venv", f"PYTHON={old}")
    assert done.returncode != 0
    assert "mmsdpt needs Python 3.10, 3.11 or 3.12" in done.stderr and str(old) in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_set_up_that_is_up_to_date_is_used_again_and_a_broken_off_one_is_not(tmp_path):
    stamp = tmp_path / "venv" / ".mmsdpt-installed"
    assert "pip install" in make("--dry-run", "install", f"VENV={tmp_path}/venv").stdout
    stamp.parent.mkdir()
    assert "pip install" in make("--dry-run", "install", f"VENV={tmp_path}/venv").stdout
    stamp.touch()
    assert "pip install" not in make("--dry-run", "install", f"VENV={tmp_path}/venv").stdout


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert (
        "Apache License" in text
        and "Version 2.0, January 2004" in text
        and "The mmsdpt authors" in text
    )
