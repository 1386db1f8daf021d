"""Report what mmsdpt finds on this machine: ``python -m mmsdpt.doctor`` (or ``tools/doctor.py``).

It reports versions, the operators in use (each is actually called once) and where weights are
expected. It also works if a package is missing, has the wrong version or cannot be loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from . import compat
from .utils.downloads import (
    BERT,
    CHECKPOINTS,
    CLIP_CHECKPOINTS,
    GLIP_CHECKPOINTS,
    GROUNDING_DINO_CHECKPOINTS,
    how_to_get,
    how_to_get_bert,
)
from .version import __version__

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        section: heading under which the line is printed.
        name: what was checked.
        value: what was found.
        problem: what to do about it, or None if it is fine.
        required: whether ``problem`` makes mmsdpt unusable.
    """

    section: str
    name: str
    value: str
    problem: str | None = None
    required: bool = False

    @property
    def state(self) -> str:
        """``ok``, ``missing`` (for something optional) or ``PROBLEM``."""
        if self.problem is None:
            return "ok"
        return "PROBLEM" if self.required else "missing"


def _probe(section: str, name: str, look: Callable[[], str], required: bool = True) -> Finding:
    """A finding with the return value of ``look``; an exception becomes the problem."""
    try:
        return Finding(section, name, look())
    except FileNotFoundError as error:
        return Finding(section, name, "not there", str(error), required)
    except Exception as error:  # the doctor must report any failure, not fail itself
        sentence = str(error).strip() or "no message"
        return Finding(
            section, name, "does not work", f"{type(error).__name__}: {sentence}", required
        )


def find_machine() -> list[Finding]:
    """Python, platform, cores."""
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count()
    return [
        Finding("machine", "mmsdpt", f"{__version__} in {Path(__file__).parent}"),
        Finding("machine", "python", f"{platform.python_version()} ({sys.executable})"),
        Finding("machine", "platform", platform.platform()),
        Finding("machine", "cores", f"{usable} usable of {os.cpu_count()}"),
    ]


def find_packages() -> list[Finding]:
    """Version of every required package, and the error that importing mmsdpt would raise."""
    findings = []
    for requirement in compat.REQUIREMENTS:
        version = compat.installed_version(requirement)
        problem = compat.version_problem(requirement, version)
        findings.append(
            Finding(
                "packages", requirement.module, version or "not installed", problem, required=True
            )
        )
    if problem := compat.two_stacks_problem():
        findings.append(Finding("packages", "OneDL", "beside OpenMMLab's", problem, required=True))
    return findings


def _devices() -> str:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    gpus = ", ".join(names) or "no GPU"
    return f"{gpus} (PyTorch built for {build}; CPU threads: {torch.get_num_threads()})"


def _deformable_convolution() -> str:
    import torch

    from .hosts.glip.deform_conv import chosen_form, modulated_deform_conv2d

    x, weight = torch.arange(32.0).view(1, 2, 4, 4), torch.arange(36.0).view(2, 2, 3, 3)
    y = modulated_deform_conv2d(
        x, torch.zeros(1, 18, 4, 4), torch.ones(1, 9, 4, 4), weight, padding=1
    )
    # Zero offsets and a mask of ones are an ordinary convolution.
    torch.testing.assert_close(y, torch.nn.functional.conv2d(x, weight, padding=1))
    form = chosen_form("cuda" if torch.cuda.is_available() else "cpu")
    return f"{'mmsdpt, by sampling' if form == 'gather' else form} (tried)"


def _compiled_ops() -> str:
    return "installed, not needed" if compat.has_compiled_ops() else "not installed, not needed"


def _nms() -> str:
    import torch
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    kept = nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.5)[1].tolist()
    if kept != [1, 2]:
        raise RuntimeError(f"non-maximum suppression kept boxes {kept}, expected [1, 2]")
    return f"{'MMCV, compiled' if compat.has_compiled_ops() else 'torchvision'} (tried)"


def find_operators() -> list[Finding]:
    """GPU, deformable convolution and NMS, each tested with a small call."""
    return [
        _probe("operators", "devices", _devices),
        _probe("operators", "compiled MMCV operators", _compiled_ops),
        _probe("operators", "deformable convolution", _deformable_convolution),
        _probe("operators", "non-maximum suppression", _nms),
    ]


def _bert_folder() -> Path:
    """Folder of BERT's files: ``checkpoints/bert-base-uncased``, or else Hugging Face's cache."""
    local = CHECKPOINTS / BERT
    if local.is_dir():
        return local.resolve()
    from huggingface_hub import constants, try_to_load_from_cache

    cached = try_to_load_from_cache(BERT, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent
    cache = Path(constants.HF_HUB_CACHE) / f"models--{BERT}"
    raise FileNotFoundError(
        f"expected in {local.resolve()} or {cache}; {how_to_get_bert()}, or let the first run"
        " download them into the cache"
    )


def _bert() -> str:
    folder = _bert_folder()
    if missing := [name for name in ("config.json", "vocab.txt") if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{folder} has no {' or '.join(missing)}: copy them from {BERT}")
    has_weights = any(
        (folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")
    )
    return f"{folder}, {'with' if has_weights else 'without'} its own weights"


def _file(path: Path, advice: str) -> str:
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"expected at {path}; {advice}")
    return f"{path}, {path.stat().st_size / 1e6:.2f} MB"


def find_weights() -> list[Finding]:
    """Where weights are expected and whether they exist. Only the mini models are included."""
    shipped = "it is part of mmsdpt: reinstall mmsdpt"
    places = [
        *(
            (name, ASSETS / asset / f"{asset}.safetensors", shipped)
            for name, asset in (
                ("mini GLIP", "mini_glip"),
                ("mini Grounding DINO", "mini_grounding_dino"),
                ("mini CLIP", "mini_clip"),
            )
        ),
        ("mini BERT", ASSETS / "mini_bert" / "vocab.txt", shipped),
        ("CLIP's vocabulary", ASSETS / "clip_tokenizer" / "vocab.json", shipped),
    ]
    shipped_count = len(places)
    known = {**GLIP_CHECKPOINTS, **GROUNDING_DINO_CHECKPOINTS, **CLIP_CHECKPOINTS}
    for name, file in known.items():
        path = CHECKPOINTS / file
        places.append((name, path, how_to_get(str(path)) or ""))
    findings = [
        _probe("weights", name, partial(_file, path, advice), False)
        for name, path, advice in places
    ]
    bert = _probe("weights", "BERT", _bert, False)
    return [*findings[:shipped_count], bert, *findings[shipped_count:]]


def examine() -> list[Finding]:
    """The whole report. Operators are tested only if every required package is usable."""
    findings = find_machine() + find_packages()
    if usable(findings):
        findings += find_operators()
    return findings + find_weights()


def usable(findings: list[Finding]) -> bool:
    """Whether no required part has a problem."""
    return not any(f.problem and f.required for f in findings)


def as_table(findings: list[Finding]) -> str:
    """Lines of name, state and value by section, then what to do about each problem."""
    width = max(len(f.name) for f in findings)
    lines: list[str] = []
    section = None
    for f in findings:
        if f.section != section:
            lines += ["", f.section]
            section = f.section
        lines.append(f"  {f.name:<{width}}  {f.state:<7}  {f.value}")
        if f.problem:
            lines.append(f"  {'':<{width}}  {'':<7}  {f.problem}")
    verdict = (
        "mmsdpt can be used."
        if usable(findings)
        else "mmsdpt cannot be used until every PROBLEM is fixed."
    )
    return "\n".join([*lines[1:], "", verdict])


def as_json(findings: list[Finding]) -> str:
    """The report for programs: ``{"usable": bool, "findings": [...]}``."""
    entries = [asdict(f) | {"state": f.state} for f in findings]
    return json.dumps({"usable": usable(findings), "findings": entries}, indent=2)


def main(arguments: list[str] | None = None) -> int:
    """Print the report; 0 if mmsdpt can be used, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="mmsdpt.doctor", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", action="store_true", help="print JSON for programs instead of a table"
    )
    options = parser.parse_args(arguments)
    with redirect_stdout(sys.stderr):  # messages that other packages print on import
        findings = examine()
    sys.stdout.write((as_json(findings) if options.json else as_table(findings)) + "\n")
    return 0 if usable(findings) else 1


if __name__ == "__main__":
    sys.exit(main())
