"""Promises of a study's file of results."""

from __future__ import annotations

import json

import pytest

from mmsdpt.experiments.records import append_record, read_records

from .by_hand import unknown


def test_the_newest_record_of_a_cell_counts(tmp_path):
    path = tmp_path / "study.jsonl"
    assert read_records(path) == []
    append_record(path, unknown("a", status="failed"))
    append_record(path, unknown("b", status="finished"))
    append_record(path, unknown("a", status="finished"))
    assert [(each["cell"], each["status"]) for each in read_records(path)] == [
        ("a", "finished"),
        ("b", "finished"),
    ]
    assert [each["cell"] for each in read_records(path, ["b", "c", "a"])] == ["b", "a"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"cell": "b", "dig',
        json.dumps(unknown("b", label="VPT")).encode().replace(b"VPT", b"VP\xff"),
        b'{"cell": "b", "digest": "2"}',
        b"[1]",
        bytes(64),
    ],
    ids=["cut off", "not UTF-8", "no method", "no dict", "zeros"],
)
def test_a_line_that_is_no_record_spoils_no_other(tmp_path, line):
    path = tmp_path / "study.jsonl"
    append_record(path, unknown("a"))
    with open(path, "ab") as file:
        file.write(line)
    append_record(path, unknown("c"))
    assert [each["cell"] for each in read_records(path)] == ["a", "c"]
