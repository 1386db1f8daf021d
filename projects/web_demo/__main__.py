"""mmsdpt in the browser: ``python -m projects.web_demo``, then open the address that it prints.

Without options it uses mini GLIP and mini CLIP, which come with the package, and the tuner files in
work_dirs. It listens on this machine alone, and needs no network.
"""

import argparse
import socket
from pathlib import Path

from mmsdpt.utils.cli import run_tool
from mmsdpt.utils.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs" / "mini"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m projects.web_demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--tuners",
        nargs="*",
        default=[
            "work_dirs",
            str(Path(__file__).parent / "tuners"),
            str(Path(__file__).parents[1] / "model_zoo"),
        ],
        metavar="FOLDER",
        help="folders whose tuner files can be chosen; default: work_dirs, the page's own and the"
        " model zoo",
    )
    parser.add_argument(
        "--config",
        default=str(CONFIGS / "sdpt_mini_thermal.py"),
        help="of the detector without a tuner file; default: mini GLIP",
    )
    parser.add_argument(
        "--clip-config",
        default=str(CONFIGS / "mudpt_mini_clothing.py"),
        help="of the classifier without a tuner file; default: mini CLIP",
    )
    parser.add_argument("--base", help="file of the detector's base weights")
    parser.add_argument("--text-encoder", help="folder of the detector's BERT")
    parser.add_argument("--clip-base", help="file of the classifier's base weights")
    parser.add_argument("--device", help="cpu, cuda:1, ...; default: a GPU if there is one")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: this machine alone"
    )
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    return parser.parse_args()


def check_address(host: str, port: int) -> None:
    """Check before the models are built that the page can listen there.

    Raises:
        InputError: if not, for example because another page does.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as tried:
            # Connections of a page that has just ended do not count.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the page cannot listen on port {port} of {host} ({reason}): choose others with --port"
            " and --host"
        ) from None


def main() -> int:
    args = parse_args()
    for config in (args.config, args.clip_config):
        if not Path(config).is_file():
            raise InputError(f"config not found: {config}")
    try:
        import gradio  # noqa: F401  # not at the top: --help is quick
    except ModuleNotFoundError:
        raise InputError(
            "the page needs packages that are not installed: pip install -e '.[web]'"
        ) from None
    check_address(args.host, args.port)
    from .page import serve

    serve(args)
    return 0


if __name__ == "__main__":
    run_tool(main)
