"""Two processes on the CPU train as one process does with the same global batch."""

import multiprocessing
import os
import socket

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel

from mmsdpt.engine import build_runner


class Record(Hook):
    """Losses of every step of this process."""

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: value.item() for name, value in outputs.items()})


def prepared(cfg, batch_size):
    """Without flips, which every process draws for its own images."""
    cfg = cfg.copy()
    cfg.train_dataloader.batch_size = batch_size
    pipeline = cfg.train_dataloader.dataset.pipeline
    next(step for step in pipeline if step["type"] == "RandomFlip_GLIP")["prob"] = 0.0
    return cfg


def train(cfg):
    runner, record = build_runner(cfg), Record()
    runner.register_hook(record)
    runner.train()
    return runner, record.losses


def child(cfg, rank, port, queue):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    cfg.launcher = "pytorch"
    runner, losses = train(cfg)
    model = runner.model
    buckets = model._get_ddp_logging_data()
    tokens = runner.host.tuners.default.tokens.weight
    queue.put(
        dict(
            rank=rank,
            wrapped=isinstance(model, MMDistributedDataParallel),
            losses=losses,
            tokens=tokens.detach().numpy().copy(),
            bytes_reduced=buckets["total_parameter_size_bytes"],
            tensors_reduced=buckets["num_parameter_tensors"],
            frozen_without_gradient=all(
                p.grad is None for p in runner.host.parameters() if not p.requires_grad
            ),
        )
    )
    torch.distributed.destroy_process_group()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes(make_tiny_cfg, tmp_path_factory):
    """What two processes with one image each report."""
    cfg = prepared(make_tiny_cfg(tmp_path_factory.mktemp("two") / "run"), batch_size=1)
    port = free_port()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=child, args=(cfg, r, port, queue)) for r in (0, 1)]
    for process in processes:
        process.start()
    reports = sorted((queue.get(timeout=300) for _ in processes), key=lambda r: r["rank"])
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return reports, cfg.work_dir


def test_two_processes_give_the_losses_and_tokens_of_one(two_processes, tiny_cfg):
    reports, _ = two_processes
    runner, losses = train(prepared(tiny_cfg, batch_size=2))
    expected = runner.host.tuners.default.tokens.weight.detach()
    for report in reports:
        assert (torch.from_numpy(report["tokens"]) - expected).abs().max() < 1e-6
    for step, whole in enumerate(losses):
        for name, value in whole.items():
            halves = [report["losses"][step][name] for report in reports]
            assert sum(halves) / 2 == pytest.approx(value, abs=1e-6), (step, name)


def test_the_processes_end_with_the_same_tokens(two_processes):
    (first, second), _ = two_processes
    assert (first["tokens"] == second["tokens"]).all()


def test_frozen_parts_have_no_gradient_buckets(two_processes):
    """Only the tokens, one tensor of 3 x 40 numbers, are exchanged."""
    for report in two_processes[0]:
        assert report["wrapped"] and report["frozen_without_gradient"]
        assert report["tensors_reduced"] == 1
        assert report["bytes_reduced"] == 3 * 40 * 4


def test_the_first_process_writes_the_files_and_both_random_states(two_processes):
    folder = two_processes[1]
    checkpoint = torch.load(f"{folder}/epoch_3.pth", weights_only=True)
    assert len(checkpoint["random_states"]) == 2
    assert os.path.isfile(f"{folder}/tuner.safetensors")


def test_another_number_of_processes_resumes_and_says_what_is_lost(two_processes, tiny_cfg):
    tiny_cfg = prepared(tiny_cfg, batch_size=2)
    tiny_cfg.log_level = "WARNING"
    tiny_cfg.resume, tiny_cfg.resume_from = True, f"{two_processes[1]}/epoch_2.pth"
    runner, losses = train(tiny_cfg)
    assert len(losses) == 2
    log = open(f"{runner.log_dir}/{runner.timestamp}.log").read()
    assert "The run had 2 processes but now has 1, so its random states are not restored" in log


def test_a_wrapper_of_the_config_works_on_the_cpu(tiny_cfg, monkeypatch):
    facts = dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
    for name, value in dict(facts, MASTER_PORT=str(free_port())).items():
        monkeypatch.setenv(name, value)
    tiny_cfg.launcher = "pytorch"
    tiny_cfg.model_wrapper_cfg = dict(find_unused_parameters=True)
    try:
        model = build_runner(tiny_cfg).model
        assert isinstance(model, MMDistributedDataParallel) and model.find_unused_parameters
    finally:
        torch.distributed.destroy_process_group()
