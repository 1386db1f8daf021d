"""Promises of the notebooks: they run, and what they show is what was committed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs pip install nbclient nbformat ipykernel")
nbclient = pytest.importorskip("nbclient", reason="needs pip install nbclient nbformat ipykernel")

ROOT = Path(__file__).parents[3]
NOTEBOOKS = sorted((ROOT / "projects" / "notebooks").glob("*.ipynb"))


def printed(notebook) -> str:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_and_fit_to_be_read(path):
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    text = path.read_text()
    assert len(text) < 700_000 and any("image/" in key for key in re.findall(r'"image/\w+"', text))
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)
    for link in re.findall(r"\]\(([^)]+\.md)\)", text):
        assert (path.parent / link).is_file(), link


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_finds_the_repository_from_any_folder(path, tmp_path):
    first = next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
    code = first.source + "\nprint(os.getcwd())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=-1, timeout=300
    )
    assert done.stdout.decode().splitlines()[-1] == str(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(path, tmp_path):
    for name in ("setup.py", "mmsdpt", "projects", "configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    notebook = nbformat.read(path, 4)
    before = printed(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources=dict(metadata=dict(path=tmp_path))
    )
    client.execute()  # its own assertions say that tuning helped
    last = printed(notebook).splitlines()[-1]
    assert last == before.splitlines()[-1] == "every score is the same as before: True"
    assert printed(notebook).splitlines()[0] == before.splitlines()[0]
