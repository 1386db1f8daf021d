"""``encoder_dtype`` in a config: runs with encoders in half precision."""

import pytest
import torch

from mmsdpt.engine import build_runner
from mmsdpt.tuners.files import load_tuner
from mmsdpt.utils.base_weights import load_base_file
from mmsdpt.utils.errors import InputError

from .test_resume import assert_same_end, elsewhere, resumed, train


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.encoder_dtype = "bfloat16"
    return tiny_cfg


def test_a_run_resumes_bit_for_bit_and_its_file_fits_the_base(cfg, tmp_path):
    straight, _ = train(elsewhere(cfg, tmp_path / "straight"))
    kinds = {p.dtype for p in straight.host.backbone.parameters()}
    assert kinds == {torch.bfloat16, torch.float32}
    train(cfg, stop=(1, 2))
    continued, _ = train(resumed(cfg))
    assert_same_end(straight, continued)

    file = next((tmp_path / "straight").glob("tuner*.safetensors"))
    full = build_runner(elsewhere(cfg, tmp_path / "other")).host
    load_base_file(full, cfg.load_from)
    load_tuner(full, file)
    tokens = straight.host.tuners.state_dict()
    assert all(torch.equal(tokens[name], v) for name, v in full.tuners.state_dict().items())


def test_a_test_runs_with_the_same_encoders(cfg):
    runner = build_runner(cfg)
    runner.test()
    kinds = {p.dtype for p in runner.host.language_model.parameters()}
    assert torch.bfloat16 in kinds


def test_another_model_than_a_host_is_refused(cfg, monkeypatch):
    runner = build_runner(cfg)
    monkeypatch.setattr(type(runner.host), "stages", lambda host: ())
    with pytest.raises(InputError, match="encoder_dtype needs a host of mmsdpt, but GLIP is none"):
        runner.train()


def test_a_wrong_dtype_is_refused(cfg):
    cfg.encoder_dtype = "float8"
    with pytest.raises(InputError, match="encoder_dtype must be bfloat16 or float16, or None"):
        build_runner(cfg).train()
