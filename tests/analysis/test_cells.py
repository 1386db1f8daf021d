"""A table that was broken off goes on, and nothing stale gets into it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmsdpt.analysis.cells import CellBook, CellError, digest
from mmsdpt.utils.errors import InputError


class Work:
    """Computes a result, and knows how often it was asked to."""

    def __init__(self, result: dict | Exception) -> None:
        self.result, self.calls = result, 0

    def __call__(self) -> dict:
        self.calls += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def path(tmp_path):
    return tmp_path / "work" / "results.json"


def test_a_finished_cell_is_not_computed_again(path):
    work = Work(dict(ap=0.25))
    assert CellBook(path).run("lora", lambda: dict(rank=16), work) == dict(ap=0.25)
    later = CellBook(path)
    assert later.run("lora", lambda: dict(rank=16), work) == dict(ap=0.25)
    assert work.calls == 1
    assert not later.errors


def test_a_cell_with_other_inputs_is_computed_again(path):
    work = Work(dict(ap=0.25))
    for rank in (16, 8, 8):
        CellBook(path).run("lora", lambda rank=rank: dict(rank=rank), work)
    assert work.calls == 2


def test_the_order_of_inputs_does_not_count():
    assert digest(dict(a=1, b=dict(c=2, d=3))) == digest(dict(b=dict(d=3, c=2), a=1))
    assert digest(dict(a=1)) != digest(dict(a=2))


@pytest.mark.parametrize("error", [CellError("out of memory"), InputError("no such file")])
def test_a_failed_cell_is_recorded_stops_no_other_and_is_tried_again(path, error):
    book, work = CellBook(path), Work(error)
    assert book.run("lora", lambda: {}, work) is None
    assert book.run("vpt", lambda: {}, Work(dict(ap=0.5))) == dict(ap=0.5)
    assert book.errors == dict(lora=str(error))
    assert json.loads(path.read_text())["cells"]["lora"]["error"] == str(error)
    later = CellBook(path)
    assert later.run("lora", lambda: {}, Work(dict(ap=0.1))) == dict(ap=0.1)
    assert not later.errors
    assert "error" not in json.loads(path.read_text())["cells"]["lora"]


def test_inputs_that_cannot_be_had_fail_the_cell(path):
    book = CellBook(path)

    def inputs():
        raise CellError("the training failed")

    work = Work(dict(ap=0.25))
    assert book.run("lora", inputs, work) is None
    assert work.calls == 0 and book.errors == dict(lora="the training failed")


def test_a_defect_of_the_program_is_not_taken_for_a_failed_cell(path):
    with pytest.raises(ZeroDivisionError):
        CellBook(path).run("lora", lambda: {}, lambda: dict(ap=1 / 0))


def test_a_result_that_is_no_longer_whole_is_computed_again(path):
    work = Work(dict(file="tuner"))
    for whole in (True, True, False):
        CellBook(path).run("lora", lambda: {}, work, is_whole=lambda _, whole=whole: whole)
    assert work.calls == 2


def test_cells_of_several_threads_all_arrive(path):
    book = CellBook(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: book.run(f"cell_{i}", lambda: {}, Work(dict(i=i))), range(40)))
    assert len(json.loads(path.read_text())["cells"]) == 40


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": 3}', '{"cells": {"a"'])
def test_a_file_with_something_else_is_refused(path, content):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match="does not hold results"):
        CellBook(path)
