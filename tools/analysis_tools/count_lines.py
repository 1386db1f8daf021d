"""Count the lines of Python in each folder: all, code, and docstrings, comments and blank lines.

``python tools/analysis_tools/count_lines.py`` prints the table of docs/architecture.md.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def count(source: str) -> Counter[str]:
    """Lines of a file: ``all``, and ``code``, without docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {
        line
        for token in tokens
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    code.difference_update(_docstrings(ast.parse(source)))
    return Counter(all=len(source.splitlines()), code=len(code))


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node) is not None:
                text = node.body[0]
                yield from range(text.lineno, (text.end_lineno or text.lineno) + 1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default="mmsdpt", type=Path, help="(%(default)s)")
    args = parser.parse_args(argv)
    found: dict[str, Counter[str]] = {}
    for path in sorted(args.folder.rglob("*.py")):
        part = path.relative_to(args.folder).parts[0]
        found.setdefault(part, Counter()).update(count(path.read_text(encoding="utf-8")))
    found["all"] = sum(found.values(), Counter())
    print(f"| {args.folder} | lines | code | docstrings, comments, blank |\n|---|--:|--:|--:|")
    for name, lines in sorted(found.items(), key=lambda item: item[1]["all"]):
        rest = lines["all"] - lines["code"]
        print(f"| {name} | {lines['all']:,} | {lines['code']:,} | {rest:,} |")


if __name__ == "__main__":
    main()
