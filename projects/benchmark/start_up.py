"""CPU seconds from the command to the first training step: ``python -m projects.benchmark.start_up
CONFIG``.

The run is that of ``tools/train.py CONFIG`` and ends after its first step. Data that a config draws
at its first use is drawn in a run before.
"""

import argparse
import os
import sys
import tempfile

from mmsdpt.utils.cli import add_common_arguments, load_config, run_tool


def cpu_seconds() -> float:
    """What this process and its finished children have used since they began."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    add_common_arguments(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.work_dir = args.work_dir or folder
        cfg = load_config(args)
        from mmengine.hooks import Hook

        from mmsdpt.engine import build_runner

        class StopAfterFirstStep(Hook):
            def after_train_iter(self, *args, **kwargs) -> None:
                print(f"{cpu_seconds():.1f} CPU seconds to the first training step")
                sys.exit()

        runner = build_runner(cfg)
        runner.register_hook(StopAfterFirstStep(), priority="HIGHEST")
        runner.train()


if __name__ == "__main__":
    run_tool(main)
