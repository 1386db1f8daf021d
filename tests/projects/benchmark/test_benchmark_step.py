"""The benchmark compares two forms of the same computation, on the same weights and inputs."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mmdet.datasets import CocoDataset

from mmsdpt.hosts.grounding.bert_folder import bert_config
from mmsdpt.utils.bert_tokenizer import BertTokenizer
from mmsdpt.utils.errors import InputError
from projects.benchmark import benchmark_step

CONFIG = "configs/mini/sdpt_mini_thermal.py"
CLIP_CONFIG = "configs/mini/mudpt_mini_clothing.py"
SMALL = ("--random-weights", "--size", "96", "128", "--batch", "2", "--steps", "1")
SMALL += ("--classes", "5", "--threads", "1")


@pytest.mark.parametrize(
    ("config", "options", "trainable"),
    [(CONFIG, SMALL, 7680), (CLIP_CONFIG, ("--random-weights", "--batch", "2"), 78080)],
)
def test_both_forms_run_the_same_steps_to_the_same_losses(repository, config, options, trainable):
    options = (*options, "--steps", "1", "--classes", "5", "--threads", "1")
    args = benchmark_step.parse_args([str(repository / config), *options])
    results = {form: benchmark_step.measure(args, form) for form in benchmark_step.FORMS}
    assert benchmark_step.loss_difference(results) < benchmark_step.TOLERANCE
    for result in results.values():
        assert len(result["losses"]) == 2  # one step to warm up, one that is timed
        assert result["losses"][0] != result["losses"][1], "the step must train"
        assert result["trainable"] == trainable
        assert result["train_s"] > 0 and result["test_s"] > 0
        assert result["train_bytes"] >= result["test_bytes"] > 0


def test_both_forms_give_the_tokens_the_same_gradient(repository):
    from projects.benchmark.plain_form import PlainGLIP

    args = benchmark_step.parse_args([str(repository / CONFIG), *SMALL])
    ours = benchmark_step.build(benchmark_step.load(args, None), args, "ours")
    with torch.no_grad():  # a fresh head leaves the scores to the bias alone
        for name, parameter in ours.named_parameters():
            if "attnconv" in name or "dot_product" in name:
                parameter.normal_(std=0.3)
    plain = PlainGLIP(copy.deepcopy(ours))
    data = importlib.import_module("projects.benchmark.glip_step").make_data(ours, args.size, 2, 5)
    found = {}
    for name, model in (("ours", ours), ("plain", plain)):
        model.double().train()
        batch = model.data_preprocessor(copy.deepcopy(data), True)
        losses = model(batch["inputs"].double(), batch["data_samples"], mode="loss")
        loss, _ = model.parse_losses(losses)
        loss.backward()
        found[name] = loss.item(), model.tuners.default.tokens.weight.grad
    (loss, gradient), (plain_loss, plain_gradient) = found["ours"], found["plain"]
    assert loss == pytest.approx(plain_loss, rel=1e-9)
    assert plain_gradient.abs().max() > 0
    torch.testing.assert_close(gradient, plain_gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["CLIPMaPLe", "CoCoOp", "LoRA"])
def test_both_forms_of_clip_give_the_same_logits_and_gradients(repository, method):
    clip_step = importlib.import_module("projects.benchmark.clip_step")
    options = ("--random-weights", "--threads", "1", "--cfg-options")
    options = (*options, "model.tuner._delete_=True", f"model.tuner.type=mmsdpt.{method}")
    args = benchmark_step.parse_args([str(repository / CLIP_CONFIG), *options])
    cfg = benchmark_step.load(args, None)
    found = {}
    for form in benchmark_step.FORMS:
        model = benchmark_step.build(cfg, args, form).train()
        torch.manual_seed(0)
        for parameter in model.tuners.parameters():
            parameter.data.normal_(std=0.1)
        batch = model.data_preprocessor(clip_step.make_data(model, (64, 64), 3, 7), True)
        logits = model(**batch, mode="tensor")
        model(**batch, mode="loss")["loss"].backward()
        found[form] = logits, [p.grad for p in model.parameters() if p.requires_grad]
    (logits, gradients), (plain_logits, plain_gradients) = found["ours"], found["plain"]
    assert logits.shape == (3, 7) and logits.std() > 0
    torch.testing.assert_close(logits, plain_logits, rtol=1e-4, atol=1e-4)
    assert any(gradient.abs().max() > 0 for gradient in plain_gradients)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(gradient, plain, rtol=1e-3, atol=1e-5)


def test_more_classes_than_there_are_names_for_are_refused(repository):
    args = benchmark_step.parse_args([str(repository / CONFIG), *SMALL, "--classes", "1204"])
    with pytest.raises(InputError, match="--classes must be at most 1203, got 1204"):
        benchmark_step.measure(args, "ours")


def test_losses_that_differ_are_noticed():
    results = dict(ours=dict(losses=[1.0, 2.0]), plain=dict(losses=[1.0, 2.001]))
    assert benchmark_step.loss_difference(results) == pytest.approx(5e-4)
    assert benchmark_step.loss_difference(results) > benchmark_step.TOLERANCE


def test_the_bert_folder_needs_no_network_and_knows_cocos_words(tmp_path):
    importlib.import_module("projects.benchmark.random_bert").make_bert(tmp_path)
    config = bert_config(str(tmp_path))
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (768, 12, 30522)
    tokenizer = BertTokenizer(tmp_path)
    assert len(tokenizer) == config.vocab_size
    names = CocoDataset.METAINFO["classes"]
    ids = tokenizer(". ".join(names)).input_ids
    assert tokenizer.unk_token_id not in ids
    assert len(ids) == 2 + sum(len(name.split()) for name in names) + len(names) - 1


@pytest.mark.parametrize(
    "flags", [[], ["c.py", "--size", "1", "2", "3"], ["c.py", "--classes", "0"]]
)
def test_bad_arguments_are_refused(flags, capsys):
    with pytest.raises(SystemExit) as error:
        benchmark_step.parse_args(flags)
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_process_that_fails_ends_the_comparison_in_one_sentence(repository, monkeypatch):
    args = benchmark_step.parse_args([str(repository / CONFIG), *SMALL])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=-9))
    with pytest.raises(InputError, match="measures ours ended with exit code -9"):
        benchmark_step.compare(args)


@pytest.mark.slow
def test_the_tool_prints_a_table_with_ratios_and_writes_json(repository, tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "projects.benchmark.benchmark_step", CONFIG, *SMALL]
    run = subprocess.run(
        [*command, "--json", str(out)], cwd=repository, capture_output=True, text=True, check=True
    )
    for words in ("plain / ours", "training step, s", "peak memory", "loss of step 2", "7,680"):
        assert words in run.stdout
    report = json.loads(out.read_text())
    assert set(report["forms"]) == {"ours", "plain"}
    assert report["loss_difference"] < 1e-4
