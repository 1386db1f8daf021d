"""Promise of tools/analysis_tools/count_lines.py: code is what is neither blank nor said."""

from __future__ import annotations

import subprocess
import sys

SOURCE = '''"""A module.

Two lines more.
"""

# A comment.
TEXT = """not a docstring
# nor a comment
"""


def function():
    """Say nothing."""
    return (  # a comment behind code
        TEXT
    )
'''


def test_docstrings_comments_and_blank_lines_are_no_code(repository, tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "module.py").write_text(SOURCE)
    (tmp_path / "one.py").write_text("x = 1\n")
    tool = repository / "tools" / "analysis_tools" / "count_lines.py"
    command = [sys.executable, str(tool), str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # 3 of TEXT, def, and 3 of return, of 16.
    assert printed.splitlines()[2:] == [
        "| one.py | 1 | 1 | 0 |",
        "| part | 16 | 7 | 9 |",
        "| all | 17 | 8 | 9 |",
    ]
