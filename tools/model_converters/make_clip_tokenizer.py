"""Write CLIP's vocabulary as a Hugging Face folder: ``make_clip_tokenizer.py
bpe_simple_vocab_16e6.txt.gz OUT``.

The .gz file is OpenAI's list of byte pair merges, as found in the packages clip and
open-clip-torch. The vocabulary, in the order of the ids: 256 bytes, the same at the end of a word
(``</w>``), one entry per merge, ``<|startoftext|>``, ``<|endoftext|>``. With ``--merges N`` only
the first N merges are taken, which gives a smaller vocabulary of 512 + N + 2.
"""

import argparse
import gzip
import json
import zlib

from mmsdpt.utils.atomic import staged, write_atomically
from mmsdpt.utils.cli import run_tool, tool_parser
from mmsdpt.utils.errors import InputError

CLIP_MERGES = 49_152 - 256 - 2  # the file holds more than CLIP uses
START, END = "<|startoftext|>", "<|endoftext|>"


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("merges_file", help="bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("out", help="folder to write")
    parser.add_argument(
        "--merges",
        type=int,
        default=CLIP_MERGES,
        help=f"take the first N merges, 1 to {CLIP_MERGES} (default: all of CLIP's)",
    )
    return parser.parse_args()


def byte_characters() -> list[str]:
    """A printable character for every byte, in the order of CLIP's ids.

    Bytes that are printable in Latin-1 come first and stand for themselves; the others get the
    characters from U+0100.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def read_merges(path: str, count: int) -> list[str]:
    """The first ``count`` merges, each ``"left right"``.

    Raises:
        InputError: if the file cannot be read or does not hold so many.
    """
    if not 1 <= count <= CLIP_MERGES:
        raise InputError(f"--merges must be from 1 to {CLIP_MERGES}, got {count}")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as gzip-compressed UTF-8 text ({error})") from None
    merges = lines[1 : 1 + count]  # the first line is the file's version
    if len(merges) < count or any(len(merge.split(" ")) != 2 for merge in merges):
        raise InputError(
            f"{path} is not CLIP's list of merges: expected a first line with the version and"
            f" {count} lines of two parts each"
        )
    return merges


def folder_files(merges: list[str]) -> dict[str, str]:
    """File name to content."""
    single = byte_characters()
    words = [*single, *(character + "</w>" for character in single)]
    words += [merge.replace(" ", "") for merge in merges]
    vocabulary = {word: index for index, word in enumerate([*words, START, END])}
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=END)
    config = dict(tokenizer_class="CLIPTokenizer", model_max_length=77, do_lower_case=True)
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")),
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "special_tokens_map.json": json.dumps(special, indent=2) + "\n",
        "tokenizer_config.json": json.dumps(config | special, indent=2) + "\n",
    }


def main() -> None:
    args = parse_args()
    files = folder_files(read_merges(args.merges_file, args.merges))
    with staged(args.out, last="tokenizer_config.json") as stage:
        for name, content in files.items():
            write_atomically(stage / name, content.encode("utf-8"))


if __name__ == "__main__":
    run_tool(main)
