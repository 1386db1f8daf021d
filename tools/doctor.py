"""Report what mmsdpt finds on this machine; the same as ``python -m mmsdpt.doctor``."""

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the module in a separate process: importing mmsdpt here would fail on the problems that
    are to be reported.
    """
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.call([sys.executable, "-m", "mmsdpt.doctor", *sys.argv[1:]], env=environment)


if __name__ == "__main__":
    sys.exit(main())
