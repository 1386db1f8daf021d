"""Features that are kept: bounds, several processes, kills, damage."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time

import pytest
import torch

from mmsdpt.utils.errors import InputError
from mmsdpt.utils.feature_store import FeatureStore, Space, clear_features, list_features

SPACE = Space("0" * 32, dict(what="image features of GLIP"))
KB = 1e-6  # of a GB


def entry(number, size=250):
    """1 kB in two tensors."""
    return torch.full((size - 10,), float(number)), torch.full((2, 5), number, dtype=torch.float32)


def is_entry(found, number):
    return found is not None and all(bool((part == number).all()) for part in found)


def put(store, *numbers, space=SPACE):
    store.put(space, {f"k{number}": entry(number) for number in numbers})


def has(store, *numbers, space=SPACE):
    found = store.get(space, [f"k{number}" for number in numbers])
    return [is_entry(each, number) for each, number in zip(found, numbers, strict=True)]


def files_of(folder):
    return sorted(folder.glob("*/*.safetensors"), key=lambda path: path.stat().st_mtime)


def test_memory_is_bounded_and_what_a_run_uses_stays():
    store = FeatureStore(memory_gb=3 * KB)
    store.begin_run()
    put(store, 1, 2)
    put(store, 3, 4)  # no room for the last
    assert has(store, 1, 2, 3, 4) == [True, True, True, False]
    store.begin_run()
    assert has(store, 2) == [True]
    put(store, 5, 6)
    assert has(store, 2, 5, 6) == [True] * 3
    assert has(store, 1, 3) == [False, False]
    put(store, 7)
    assert has(store, 2, 5, 6, 7) == [True, True, True, False]


def test_a_folder_serves_others_and_later_runs(tmp_path):
    store = FeatureStore(0, tmp_path)
    put(store, 1, 2)
    other = FeatureStore(0, tmp_path)
    assert has(other, 1, 2, 3) == [True, True, False]
    put(store, 3)
    assert has(other, 3) == [True]
    assert has(other, 1, space=Space("1" * 32)) == [False]
    half = Space("2" * 32)
    store.put(half, {"k": (torch.ones(3, dtype=torch.bfloat16), torch.tensor([4]))})
    ((part, kind),) = other.get(half, ["k"])
    assert part.dtype == torch.bfloat16 and part.tolist() == [1, 1, 1] and kind.tolist() == [4]


def test_a_folder_that_is_read_only_or_of_others_is_read(tmp_path, monkeypatch):
    put(FeatureStore(0, tmp_path), 1, 2)
    next(tmp_path.glob("*/k1.safetensors")).write_bytes(b"damaged")

    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    assert has(FeatureStore(0, tmp_path), 1, 2) == [False, True]


def test_a_folder_is_bounded_and_what_is_unused_for_longest_goes_first(tmp_path):
    first = FeatureStore(0, tmp_path, max_gb=5.5 * KB)
    put(first, 1)
    put(first, 2)
    put(first, 3)
    for age, path in enumerate(files_of(tmp_path)):
        os.utime(path, (1000 + age, 1000 + age))
    one, two, three = files_of(tmp_path)
    second = FeatureStore(0, tmp_path, max_gb=5.5 * KB)
    second.begin_run()
    assert has(second, 1) == [True]  # used again
    put(second, 4)
    assert [path.is_file() for path in (one, two, three)] == [True, False, True]
    put(second, 5)
    assert [path.is_file() for path in (one, two, three)] == [True, False, False]
    put(second, 6)  # nothing is left that this run has not used
    assert has(second, 1, 4, 5, 6) == [True, True, True, False]
    assert sum(path.stat().st_size for path in files_of(tmp_path)) <= 5500
    assert has(first, 1, 2, 3) == [True, False, False]  # it finds that they are gone


@pytest.mark.parametrize("cut", ["byte", "half"])
def test_damage_is_found_and_computed_again(tmp_path, cut):
    put(FeatureStore(0, tmp_path), 1, 2)
    path = next(tmp_path.glob("*/k1.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if cut == "byte" else content[: len(content) // 2])
    store = FeatureStore(0, tmp_path)
    assert has(store, 1, 2) == [False, True] and not path.exists()
    put(store, 1)
    assert has(FeatureStore(0, tmp_path), 1, 2) == [True, True]


def write_for_ever(folder, first):
    store = FeatureStore(0, folder)
    for number in range(first, first + 10**6):
        put(store, number)


def read_all(folder, problems):
    store = FeatureStore(0, folder)
    end = time.time() + 1.5
    while time.time() < end:
        for number in range(40):
            (found,) = store.get(SPACE, [f"k{number}"])
            if found is not None and not is_entry(found, number):
                problems.put(number)


def test_a_writer_that_is_killed_leaves_whole_entries_and_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    for round_ in range(6):
        process = context.Process(target=write_for_ever, args=(tmp_path, 1000 * round_))
        process.start()
        seen = len(files_of(tmp_path))
        while len(files_of(tmp_path)) < seen + 2:
            time.sleep(0.001)
        time.sleep(0.0007 * round_)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = FeatureStore(0, tmp_path)
        numbers = [n for n in range(1000 * round_, 1000 * round_ + 999)]
        there = [n for n, ok in zip(numbers, has(found, *numbers), strict=True) if ok]
        assert there == numbers[: len(there)] and len(there) >= 2
    (space,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (space / ".left.safetensors.unfinished").write_bytes(b"part")
    put(FeatureStore(0, tmp_path), 7777)
    assert not list(space.glob(".*"))


def test_processes_write_and_read_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    problems = context.Queue()
    writers = [context.Process(target=write_for_ever, args=(tmp_path, first)) for first in (0, 20)]
    reader = context.Process(target=read_all, args=(tmp_path, problems))
    for process in (*writers, reader):
        process.start()
    reader.join()
    while not all(has(FeatureStore(0, tmp_path), 0, 1, 20, 21)):
        time.sleep(0.05)  # on a busy machine
    for process in writers:
        process.kill()
        process.join()
    assert problems.empty() and reader.exitcode == 0
    assert has(FeatureStore(0, tmp_path), 0, 1, 20, 21) == [True] * 4


def test_list_and_clear(tmp_path):
    store = FeatureStore(0, tmp_path)
    put(store, 1, 2)
    put(store, 3, space=Space("1" * 32, dict(what="text features of GLIP")))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.safetensors").write_bytes(b"mine")
    facts = {each.about["what"]: each for each in list_features(tmp_path)}
    assert facts["image features of GLIP"].entries == 2
    assert facts["text features of GLIP"].entries == 1
    assert facts["image features of GLIP"].size > 2000
    os.utime(files_of(tmp_path)[0], (1000, 1000))
    assert clear_features(tmp_path, unused_days=1)[0] == 1
    assert clear_features(tmp_path) == (2, pytest.approx(2500, abs=500))
    assert list_features(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "notes"]
    assert (tmp_path / "notes/mine.safetensors").read_bytes() == b"mine"
    assert has(FeatureStore(0, tmp_path), 1) == [False]
    with pytest.raises(InputError, match="is not a folder"):
        list_features(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be created"):
        FeatureStore(0, tmp_path / "notes/mine.safetensors")
