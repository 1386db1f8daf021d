"""Promises of running a study in several processes and on several machines."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from mmsdpt.experiments import running
from mmsdpt.experiments.loading import load_study
from mmsdpt.experiments.records import read_records
from mmsdpt.experiments.running import run
from mmsdpt.utils.errors import InputError

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")

KEYS = dict(names=["coop", "vpt", "mudpt"], shots=[1, 2], seeds=[1, 2], epochs=2)


def numbers(records) -> list:
    records = records.values() if isinstance(records, dict) else records
    assert all(record["status"] == "finished" for record in records), [
        record["error"] for record in records
    ]
    return sorted((r["cell"], r["metrics"], r["before"]) for r in records)


@pytest.fixture
def straight(write_study, tmp_path) -> list:
    """The results of one process that nobody disturbs."""
    records, _ = run(load_study(write_study(**KEYS)), tmp_path / "straight", threads=1)
    return numbers(records)


@pytest.fixture
def path(write_study) -> Path:
    return write_study(**KEYS)


def test_two_processes_give_the_results_of_one(path, straight, tmp_path):
    records, _ = run(load_study(path), tmp_path / "work", jobs=2, threads=1)
    assert numbers(records) == straight
    assert not ray.is_initialized()


def test_stacks_wait_for_the_training_that_they_build_on(write_study, tmp_path):
    path = write_study(protocol="stacking", source="clip_eurosat", pairs=[("vpt", "coop")])
    one, _ = run(load_study(path), tmp_path / "one", threads=1)
    two, _ = run(load_study(path), tmp_path / "two", jobs=2, threads=1)
    assert numbers(two) == numbers(one)


@pytest.mark.parametrize("failures", [1, 9])
def test_ray_is_started_again_where_a_busy_machine_lets_it_give_up(
    path, tmp_path, monkeypatch, failures
):
    tried, start = [], ray.init

    def busy(**options):
        tried.append(options)
        if len(tried) <= failures:
            raise Exception("The current node timed out during startup.")
        start(**options)

    monkeypatch.setattr(ray, "init", busy)
    if failures > running._STARTS:
        with pytest.raises(InputError, match="--jobs 1"):
            run(load_study(path), tmp_path / "work", jobs=2, threads=1)
        assert len(tried) == running._STARTS
    else:
        with running._ray(2, 1, None) as threads:
            assert ray.is_initialized() and threads == 1
    assert not ray.is_initialized()


def workers_of(marker: str) -> list[int]:
    """Processes that have an environment variable with this value."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if marker.encode() in environment and state != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_a_worker_that_is_killed_costs_nothing(path, straight, tmp_path, monkeypatch):
    marker = uuid.uuid4().hex
    monkeypatch.setenv("MMSDPT_TEST_MARKER", marker)
    killed = []

    def kill_a_worker_at_work() -> None:
        while not killed:
            time.sleep(0.2)
            for process in workers_of(marker):
                if "compute" in command_of(process):  # Ray's title of a worker at work
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
                    return

    threading.Thread(target=kill_a_worker_at_work, daemon=True).start()
    records, _ = run(load_study(path), tmp_path / "work", jobs=2, threads=1)
    assert killed
    assert numbers(records) == straight


def test_a_node_that_is_removed_costs_nothing(path, straight, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args=dict(num_cpus=1, include_dashboard=False, object_store_memory=10**8),
    )
    node = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    seen = []

    def remove_the_node(record) -> None:
        seen.append(record["cell"])
        if len(seen) == 4:
            cluster.remove_node(node, allow_graceful=False)

    try:
        records, _ = run(
            load_study(path),
            tmp_path / "work",
            jobs=2,
            threads=1,
            address=cluster.address,
            on_record=remove_the_node,
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(seen) == len(records)
    assert numbers(records) == straight


def test_a_driver_that_is_ended_ten_times_loses_nothing(path, straight, tmp_path, repository):
    marker, chance = uuid.uuid4().hex, random.Random(0)
    work = tmp_path / "work"
    tool = [sys.executable, str(repository / "tools" / "experiments.py"), "run", str(path)]
    environment = dict(os.environ, MMSDPT_TEST_MARKER=marker, PYTHONPATH=str(repository))
    known: list = []
    for number in range(10):
        jobs = 1 + number % 2
        command = [*tool, "--work-dir", str(work), "--jobs", str(jobs), "--threads", "1"]
        driver = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(5, 20 * jobs))
        driver.send_signal(signal.SIGTERM if number % 4 < 2 else signal.SIGKILL)
        driver.wait(60)
        left = wait_until_none(marker)
        assert not left, [command_of(process) for process in left]
        records = read_records(work / "tiny.jsonl")
        finished = [r["cell"] for r in records if r["status"] == "finished"]
        assert len(finished) == len(records) and set(known) <= set(finished)
        known = finished
    done = subprocess.run([*tool, "--work-dir", str(work)], env=environment, timeout=300)
    assert done.returncode == 0
    assert numbers(read_records(work / "tiny.jsonl")) == straight
    assert not list(work.rglob("*.unfinished"))


SLOWLY = """
import shutil, sys, time
from mmsdpt.experiments import loading, running
remove = shutil.rmtree
running.shutil.rmtree = lambda *args, **options: (time.sleep(4), remove(*args, **options))
running.run(loading.load_study(sys.argv[1]), sys.argv[2], jobs=2, threads=1)
"""


def test_sigterm_leaves_time_to_clean_up(path, tmp_path, repository):
    """Ray's own handler aborts the process after three seconds."""
    environment = dict(os.environ, PYTHONPATH=str(repository))
    command = [sys.executable, "-c", SLOWLY, str(path), str(tmp_path / "work")]
    driver = subprocess.Popen(command, env=environment)
    while not (tmp_path / "work/tiny.jsonl").exists():
        assert driver.poll() is None
        time.sleep(0.2)
    sessions = f"ray*/session_*_{driver.pid}"
    assert list(Path("/tmp").glob(sessions))
    driver.terminate()
    assert driver.wait(60) > 0  # by itself, not by a signal
    assert not list(Path("/tmp").glob(sessions))


def wait_until_none(marker: str, seconds: float = 30) -> list[int]:
    """Processes with this marker that are still there after some seconds."""
    end = time.monotonic() + seconds
    while (left := workers_of(marker)) and time.monotonic() < end:
        time.sleep(0.3)
    return left
