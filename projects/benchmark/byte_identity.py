"""Whether the same command and seed give the same tuner file, byte for byte.

``python -m projects.benchmark.byte_identity configs/mini/sdpt_mini_new_names.py --epochs 2``

trains the config twenty times, each in processes of its own: straight, and killed after the first
epoch and resumed, with no worker that loads images and with two, and by the experiment engine. The
files of ``tools/train.py`` must be equal to the last byte; the engine's, which say more of where
they come from, must be equal among each other, and all must hold the same tensors.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors import safe_open

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.cli import run_tool

REPOSITORY = Path(__file__).resolve().parents[2]
_WAIT = 1800.0  # seconds for an epoch


def train(config: str, folder: Path, options: Sequence[str], killed: bool) -> Path:
    """Run ``tools/train.py``, perhaps killed after its first epoch and resumed; its tuner file."""
    command = [sys.executable, "tools/train.py", config, "--work-dir", str(folder)]
    command += ["--cfg-options", *options]
    with open(os.devnull, "w") as nowhere:
        quiet = dict(cwd=REPOSITORY, stdout=nowhere, stderr=subprocess.STDOUT)
        if killed:
            process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
            deadline = time.monotonic() + _WAIT
            while not (folder / "epoch_1.pth").is_file():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command)} ended before its first epoch did")
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            command.append("--resume")
        subprocess.run(command, check=True, **quiet)  # type: ignore[call-overload]
    return folder / "tuner.safetensors"


def compute(config: str, folder: Path, seed: int, epochs: int) -> Path:
    """Run a study of this one training; its tuner file."""
    study = dict(
        name="byte_identity",
        protocol="comparison",
        runtime="configs/_base_/mini_world_runtime.py",
        hosts=[dict(config=config)],
        methods=[dict(name="method", config=config)],
        data=[dict(name="data", config=config)],
        seeds=[seed],
        epochs=epochs,
    )
    path = folder / "byte_identity.py"
    write_atomically(path, f"study = {study!r}\n".encode())
    command = [sys.executable, "tools/experiments.py", "run", str(path), "--work-dir", str(folder)]
    with open(os.devnull, "w") as nowhere:
        subprocess.run(
            command, check=True, cwd=REPOSITORY, stdout=nowhere, stderr=subprocess.STDOUT
        )
    (found,) = folder.rglob("tuner.safetensors")
    return found


def digests(path: Path) -> tuple[str, str]:
    """SHA-256 of a file, and of its tensors alone."""
    tensors = hashlib.sha256()
    with safe_open(path, "np") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            tensors.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes())
    return hashlib.sha256(path.read_bytes()).hexdigest(), tensors.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", help="config of a training by epochs")
    parser.add_argument("--epochs", type=int, default=2, help="at least 2, to be killed between")
    parser.add_argument("--repeats", type=int, default=4, help="of each of the five ways")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/byte_identity"))
    args = parser.parse_args()
    root = args.work_dir.resolve()
    if root.exists() and any(root.iterdir()):
        parser.error(f"{root} is not empty: name another --work-dir, or remove it")
    ways = [(killed, workers) for killed in (False, True) for workers in (0, 2)]
    runs = [*ways, None] * args.repeats
    found: dict[str, list[tuple[str, str]]] = {}
    for way in track(runs, "training"):
        folder = root / f"{len(list(root.glob('*'))):02}"
        folder.mkdir(parents=True)
        if way is None:
            name, path = "experiments", compute(args.config, folder, args.seed, args.epochs)
        else:
            killed, workers = way
            name = f"{'resumed' if killed else 'straight'}, {workers} workers"
            options = [
                f"randomness.seed={args.seed}",
                f"train_cfg.max_epochs={args.epochs}",
                f"train_cfg.val_interval={args.epochs}",
                f"train_dataloader.num_workers={workers}",
                f"train_dataloader.persistent_workers={workers > 0}",
            ]
            path = train(args.config, folder, options, killed)
        found.setdefault(name, []).append(digests(path))
    table = Table("", "runs", "file, SHA-256", "tensors, SHA-256")
    for name, results in found.items():
        cells = (", ".join(f"{x[:12]} ({n})" for x, n in Counter(each).items())
                 for each in zip(*results, strict=True))  # fmt: skip
        table.add_row(name, str(len(results)), *cells)
    Console().print(table)
    alone = [file for name, each in found.items() if name != "experiments" for file, _ in each]
    tensors = [x for each in found.values() for _, x in each]
    of_engine = [file for file, _ in found["experiments"]]
    same = [max(Counter(each).values()) for each in (alone, of_engine, tensors)]
    print(
        f"{same[0]} of {len(alone)} files of tools/train.py are equal, {same[1]} of"
        f" {len(of_engine)} of the engine, and the tensors of {same[2]} of {len(tensors)}"
    )
    return int(any(len(set(each)) > 1 for each in (alone, of_engine, tensors)))


if __name__ == "__main__":
    run_tool(main)
