"""A process killed at any moment of a write leaves files that load.

``FUZZ_KILLS`` is the number of kills; ``make fuzz`` sets many.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.atomic import remove_unfinished, write_atomically
from tests.tuners.fusion_host import FusionHost

KILLS = int(os.environ.get("FUZZ_KILLS", "20"))


def make_host() -> FusionHost:
    torch.manual_seed(0)
    return FusionHost(tuner=dict(type="mmsdpt.SDPT", num_tokens=2000))


def write_for_ever(host: FusionHost, folder: Path) -> None:
    number = 0
    while True:
        number += 1
        with torch.no_grad():
            host.tuners["default"].tokens.weight.fill_(number)
        save_tuner(host, folder / "tuner.safetensors")
        write_atomically(folder / "last_checkpoint", f"epoch_{number}.pth".encode() * 1000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_kill_during_a_write_leaves_files_that_load(tmp_path):
    host, reader, draw = make_host(), make_host(), random.Random(0)
    MMLogger.get_current_instance().setLevel("ERROR")
    save_tuner(host, tmp_path / "tuner.safetensors")
    interrupted = 0
    for _ in range(KILLS):
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(tell, b"x")
                write_for_ever(host, tmp_path)
            finally:
                os._exit(1)
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        time.sleep(draw.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        load_tuner(reader, tmp_path / "tuner.safetensors")
        weight = reader.tuners["default"].tokens.weight
        assert weight.isfinite().all()
        pointer = tmp_path / "last_checkpoint"
        if pointer.exists():
            text = pointer.read_text()
            assert text == text[: len(text) // 1000] * 1000
        interrupted += any(name.startswith(".") for name in os.listdir(tmp_path))
        remove_unfinished(tmp_path)
        assert set(os.listdir(tmp_path)) <= {"tuner.safetensors", "last_checkpoint"}
    print(f"{KILLS} kills, {interrupted} of them while a file was written")
