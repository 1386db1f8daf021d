"""Time and memory of a step on a GPU: SDPT by each form of deformable convolution, other methods,
and MMDetection's form.

``projects/benchmark/gpu.sh`` runs this; it takes less than five minutes. Afterwards put the fastest
form into ``_FASTEST`` of mmsdpt/hosts/glip/deform_conv.py.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile

from rich.console import Console
from rich.table import Table

from projects.benchmark import benchmark_step
from projects.benchmark.random_bert import make_bert

METHODS = dict(
    SDPT="configs/sdpt/glip_l_coco_k10.py",
    LoRA="configs/baselines/lora_glip_l_coco.py",
    full="configs/baselines/full_fine_tuning_glip_l_coco.py",
)
MEGA = 1e6


def card(device: str) -> str:
    """Name of the processor that is measured."""
    if not device.startswith("cuda"):
        return platform.processor() or platform.machine()
    import torch

    return torch.cuda.get_device_name(device)


def cases(forms: list[str]) -> list[tuple[str, str, str, bool]]:
    """Name, config, form of the model or of deformable convolution, mixed precision."""
    found = []
    for amp in (False, True):
        kind = "bf16" if amp else "fp32"
        found += [(f"SDPT, {form}, {kind}", METHODS["SDPT"], form, amp) for form in forms]
        found += [(f"{name}, {kind}", METHODS[name], "", amp) for name in METHODS if name != "SDPT"]
        found.append((f"SDPT, MMDetection's form, {kind}", METHODS["SDPT"], "plain", amp))
    return found


def measure(args: argparse.Namespace, config: str, form: str, amp: bool, bert: str) -> dict:
    """A step of one case; the deformable convolution is ``form``'s where that names one."""
    flags = ["--random-weights", "--device", args.device, "--batch", str(args.batch)]
    flags += ["--size", *map(str, args.size), "--steps", str(args.steps)]
    flags += ["--classes", "80", *(["--amp"] if amp else [])]
    step = benchmark_step.parse_args([config, *flags])
    os.environ["MMSDPT_DEFORM_CONV"] = form if form in ("gather", "torchvision", "mmcv") else ""
    needs_bert = benchmark_step.needs_bert(step)
    kind = "plain" if form == "plain" else "ours"
    return benchmark_step.measure(step, kind, bert if needs_bert else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", nargs=2, type=int, default=[800, 1333], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="timed steps after one to warm up")
    parser.add_argument("--config", help="measure this config's SDPT alone, not GLIP-L's methods")
    args = parser.parse_args()
    import torch

    import mmsdpt.engine  # noqa: F401
    from mmsdpt.compat import has_compiled_ops
    from mmsdpt.utils.errors import InputError

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("PyTorch sees no GPU: --device cpu measures there, slowly")
    if args.config:
        for name in [name for name in METHODS if name != "SDPT"]:
            del METHODS[name]
        METHODS["SDPT"] = args.config
    forms = ["gather", "torchvision", *(["mmcv"] if has_compiled_ops() else [])]
    table = Table(title=f"{card(args.device)}, torch {torch.__version__}", title_justify="left")
    for head in ("", "training step, ms", "inference step, ms", "peak of training, MB", "loss"):
        table.add_column(head, justify="right" if head else "left")
    with tempfile.TemporaryDirectory() as bert:
        make_bert(bert)
        for name, config, form, amp in cases(forms):
            found = measure(args, config, form, amp, bert)
            times = (f"{1000 * found[key]:.1f}" for key in ("train_s", "test_s"))
            table.add_row(
                name, *times, f"{found['train_bytes'] / MEGA:.0f}", f"{found['losses'][0]:.5f}"
            )
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


if __name__ == "__main__":
    from mmsdpt.utils.cli import run_tool

    run_tool(main)
