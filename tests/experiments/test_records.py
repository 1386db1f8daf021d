"""Promises of a study's file of results."""

from __future__ import annotations

from mmsdpt.experiments.records import append_record, read_records


def test_the_newest_record_of_a_cell_counts(tmp_path):
    path = tmp_path / "study.jsonl"
    assert read_records(path) == []
    append_record(path, dict(cell="a", digest="1", status="failed"))
    append_record(path, dict(cell="b", digest="2", status="finished"))
    append_record(path, dict(cell="a", digest="1", status="finished"))
    assert [(each["cell"], each["status"]) for each in read_records(path)] == [
        ("a", "finished"),
        ("b", "finished"),
    ]
    assert [each["cell"] for each in read_records(path, ["b", "c", "a"])] == ["b", "a"]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "study.jsonl"
    append_record(path, dict(cell="a", digest="1"))
    with open(path, "ab") as file:
        file.write(b'{"cell": "b", "dig')
    append_record(path, dict(cell="c", digest="3"))
    assert [each["cell"] for each in read_records(path)] == ["a", "c"]
