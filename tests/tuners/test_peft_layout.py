"""LoRA and DoRA go to peft and come back: the library computes what the tuner does."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.tuners.peft_layout import read_peft, write_peft
from mmsdpt.utils.errors import InputError
from tests.tuners.test_files_of_version_0_1 import RECORDS, reference

peft = pytest.importorskip("peft", reason="pip install peft")
METHODS = {
    "glip": "mmsdpt.LoRA",
    "clip": "mmsdpt.LoRA",
    "glip fusion": "mmsdpt.LoRAXMHA",
    "glip dora": "mmsdpt.DoRA",
    "clip three pairs": "mmsdpt.CLIPLoRA",
}


def tuned(name: str) -> nn.Module:
    host = name.split()[0]
    tuner = dict(type=METHODS[name], rank=2, alpha=3.0)
    model = reference.build(host, RECORDS["hosts"][host], tuner)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.tuners.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def outputs(model: nn.Module, host: str) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack(list(reference.losses(model, host).values()))


@pytest.mark.parametrize("name", METHODS)
def test_peft_computes_the_same_from_the_written_adapter(name, tmp_path):
    host = name.split()[0]
    model = tuned(name)
    plain = reference.build(host, RECORDS["hosts"][host])
    base, expected = outputs(plain, host), outputs(model, host)
    assert (base - expected).abs().max() > 1e-3
    write_peft(model, tmp_path)
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(plain), tmp_path).merge_and_unload()
    assert torch.allclose(outputs(adapted, host), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_an_adapter_comes_back_to_the_bit(name, tmp_path):
    model = tuned(name)
    write_peft(model, tmp_path)
    other = tuned(name)
    with torch.no_grad():
        for parameter in other.tuners.parameters():
            parameter.add_(1)
    read_peft(other, tmp_path)
    for key, value in model.tuners.state_dict().items():
        assert torch.equal(value, other.tuners.state_dict()[key])


def test_a_pair_that_query_key_and_value_share_is_not_three(tmp_path):
    write_peft(
        reference.build("clip", RECORDS["hosts"]["clip"], dict(type="mmsdpt.LoRA", rank=6)),
        tmp_path,
    )
    file = tmp_path / "adapter_model.safetensors"
    state = {name: torch.ones_like(value) for name, value in load_file(file).items()}
    save_file({name: v for name, v in state.items() if "out_proj" not in name}, file)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["lora_alpha"] = 3 * 3.0 * 2**0.5  # that of CLIPLoRA with rank 2 and alpha 3
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    model = tuned("clip three pairs")
    before = copy.deepcopy(model.tuners.state_dict())
    with pytest.raises(InputError, match="query, key and value share A"):
        read_peft(model, tmp_path)
    assert all(torch.equal(before[key], value) for key, value in model.tuners.state_dict().items())


@pytest.mark.parametrize("change", [dict(r=3), dict(peft_type="IA3"), dict(use_dora=True)])
def test_another_kind_of_adapter_is_refused(change, tmp_path):
    model = tuned("glip")
    write_peft(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=r"r, lora_alpha|expected plain LoRA"):
        read_peft(model, tmp_path)


def test_what_trained_together_with_the_tuner_is_not_left_out(tmp_path):
    model = tuned("clip")
    model.visual_proj.requires_grad_(True)
    file = save_tuner(model, tmp_path / "tuner.safetensors")
    for each in (model, tuned("clip")):
        load_tuner(each, file)
        with pytest.raises(InputError, match=r"parameters of the host \(visual_proj.proj\)"):
            write_peft(each, tmp_path / "adapter")
        assert not (tmp_path / "adapter").exists()


def test_lora_and_dora_are_not_taken_for_each_other(tmp_path):
    write_peft(tuned("glip"), tmp_path)
    with pytest.raises(InputError, match="LORA without use_dora, expected plain DoRA"):
        read_peft(tuned("glip dora"), tmp_path)
    model = reference.build("clip", RECORDS["hosts"]["clip"], dict(type="mmsdpt.DoRA", rank=2))
    with pytest.raises(InputError, match="DoRA on CLIP has no form in peft"):
        write_peft(model, tmp_path)


def test_other_methods_and_other_weights_are_refused(tmp_path):
    write_peft(tuned("glip fusion"), tmp_path)
    with pytest.raises(InputError, match="which LoRA on GLIP does not"):
        read_peft(tuned("glip"), tmp_path)
    model = reference.build("glip", RECORDS["hosts"]["glip"], dict(type="mmsdpt.BitFit"))
    with pytest.raises(InputError, match="BitFit has no form in peft"):
        write_peft(model, tmp_path)


@pytest.mark.parametrize(
    ("name", "lacks", "words"),
    [
        ("glip", "lora_A", "is not complete: .* has no lora_A"),
        ("glip", "lora_B", "is not complete: .* has no lora_B"),
        ("glip dora", "magnitude", "is not complete: .* has no lora_magnitude_vector"),
        ("glip", "lora_", "has no LoRA matrices"),
    ],
)
def test_an_adapter_of_which_a_part_is_missing_is_refused(name, lacks, words, tmp_path):
    model = tuned(name)
    write_peft(model, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if lacks not in key}, file)
    before = copy.deepcopy(model.tuners.state_dict())
    with pytest.raises(InputError, match=words):
        read_peft(model, tmp_path)
    assert all(torch.equal(before[key], value) for key, value in model.tuners.state_dict().items())
