"""On a disk without room a file is whole or as it was, and the message names it. Room is limited by
the largest size that a file may have.
"""

import os
import resource

import pytest
from matplotlib.figure import Figure

from mmsdpt.evaluation import PickledResults
from mmsdpt.experiments.records import append_record, read_records
from mmsdpt.utils.atomic import check_writable
from mmsdpt.visualization.drawing import save_figure
from tests.experiments.by_hand import unknown


@pytest.fixture
def room():
    """Sets how large a file may become."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_pickle(path):
    metric = PickledResults(out_file_path=str(path))
    metric.compute_metrics([dict(x=i) for i in range(1000)])
    assert metric.prefix  # otherwise MMEngine warns


WRITERS = {
    "a.png": lambda path: save_figure(Figure(), path, 100),
    "a.jpg": lambda path: save_figure(Figure(), path, 100),
    "a.pkl": write_pickle,
}


@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
def test_a_result_is_whole_or_as_it_was(tmp_path, room, name, write):
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    assert len(whole) > 1000
    path.write_bytes(b"old")
    room(1000)
    with pytest.raises(OSError) as error:
        write(path)
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [name]
    room(resource.RLIM_INFINITY)
    write(path)
    assert path.read_bytes() == whole or name.endswith("g")  # pictures may hold a date


def test_a_line_without_room_names_its_file_and_spares_the_others(tmp_path, room):
    path = tmp_path / "study.jsonl"
    append_record(path, unknown("a"))
    room(1000)
    with pytest.raises(OSError) as error:
        append_record(path, unknown("b", error="x" * 2000))
    assert error.value.filename == str(path)
    room(resource.RLIM_INFINITY)
    append_record(path, unknown("c"))
    assert [record["cell"] for record in read_records(path)] == ["a", "c"]


@pytest.mark.parametrize("place", ["file/x.json", "folder", "link/x.json"])
def test_a_place_that_cannot_be_written_is_known_before_the_work(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(OSError) as error:
        check_writable(tmp_path / place)
    assert error.value.filename == str(tmp_path / place)
    check_writable(tmp_path / "new" / "x.json")
    assert os.listdir(tmp_path / "new") == []
