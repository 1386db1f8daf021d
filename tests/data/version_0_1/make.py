"""Write the files of this folder. Run with version 0.1; see README.md."""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from reference import BERT, CLASSES, FOLDER, RECORDS, SIZES, build, losses, make_run, numbers, worst
from torch import nn

import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.registry import MODELS
from mmsdpt.tuners import Tuner
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.version import __version__

MODEL_CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "_base_" / "models"
STEPS = 3  # the first moves what starts at zero, the next what is multiplied with it

# Tuners by host and name of the file.
TUNERS: dict[str, dict[str, dict[str, Any]]] = dict(
    glip=dict(
        sdpt=dict(type="SDPT", num_tokens=3),
        sdpt_unshared=dict(type="SDPT", num_tokens=3, share=False),
        sdpt_learnable=dict(type="SDPT", num_tokens=3, projection="learnable"),
        sdpt_learnable_unshared=dict(
            type="SDPT", num_tokens=2, projection="learnable", share=False
        ),
        sdpt_image=dict(type="SDPT", num_tokens=3, sides="image"),
        sdpt_text=dict(type="SDPT", num_tokens=3, sides="text"),
        sdpt_text_learnable=dict(type="SDPT", num_tokens=3, sides="text", projection="learnable"),
        sdpt_masked=dict(type="SDPT", num_tokens=3, mask_text_tokens=True),
        sdpt_last_layer=dict(type="SDPT", num_tokens=3, layers=[1]),
        adapter=dict(type="Adapter", bottleneck=4),
        adapter_without_norms=dict(type="Adapter", bottleneck=4, layer_norms=False),
        adaptformer=dict(type="AdaptFormer", bottleneck=4),
        apollo=dict(type="Apollo", bottleneck=8),
        bitfit=dict(type="BitFit"),
        bitfit_text=dict(type="BitFit", groups=["text"]),
        bitfit_xmha=dict(type="BitFitXMHA"),
        bitfit_xmha_without_norms=dict(type="BitFitXMHA", layer_norms=False),
        coop=dict(type="CoOp", num_tokens=4),
        coop_words=dict(type="CoOp", num_tokens=4, init_words="a photo of a"),
        dpt=dict(type="DPT", num_context=4, num_visual=3, num_class_prompts=2, key_width=8),
        full_fine_tuning=dict(type="FullFineTuning"),
        glip_prompt=dict(type="GLIPPrompt"),
        linear_probing=dict(type="LinearProbing"),
        lora=dict(type="LoRA", rank=2),
        lora_alpha=dict(type="LoRA", rank=2, alpha=6.0),
        lora_xmha=dict(type="LoRAXMHA", rank=2),
        maple=dict(type="MaPLe"),
        maple_one_layer=dict(type="MaPLe", num_tokens=3, depth=1, init_words="a photo of"),
        pmf=dict(type="PMF", num_layers=1),
        upt=dict(type="UPT"),
        vpt=dict(type="VPT", num_tokens=3),
    ),
    clip=dict(
        mudpt=dict(type="MuDPT"),
        mudpt_unshared=dict(type="MuDPT", share=False, depth=2),
        mudpt_one_way=dict(type="MuDPT", direction="t2v"),
        mudpt_one_way_transformer=dict(
            type="MuDPT", injection="transformer", direction="t2v", learn_image_prompts=False
        ),
        mudpt_image_to_text=dict(type="MuDPT", direction="v2t"),
        mudpt_transformer=dict(type="MuDPT", injection="transformer"),
        mudpt_two_blocks=dict(
            type="MuDPT", injection="transformer", injection_layers=2, direction="t2v"
        ),
        mudpt_figure=dict(type="MuDPT", injection="transformer", variant="figure", depth=2),
        mudpt_figure_linear=dict(type="MuDPT", variant="figure", depth=2),
        mudpt_none=dict(type="MuDPT", injection="none", num_text_tokens=3, num_image_tokens=1),
        mudpt_text_only=dict(type="MuDPT", injection="none", num_image_tokens=0),
        coop=dict(type="CLIPCoOp", num_tokens=4),
        coop_middle=dict(type="CLIPCoOp", num_tokens=4, position="middle"),
        coop_front=dict(type="CLIPCoOp", num_tokens=4, position="front"),
        coop_words=dict(type="CLIPCoOp", num_tokens=4, init_words="a photo of a"),
        coop_per_class=dict(
            type="CLIPCoOp", num_tokens=4, per_class=True, num_classes=len(CLASSES)
        ),
        cocoop=dict(type="CoCoOp", reduction=4),
        clip_vpt=dict(type="CLIPVPT", num_tokens=3),
        clip_vpt_shallow=dict(type="CLIPVPT", num_tokens=3, depth=1),
        vpt=dict(type="VPT", num_tokens=3),
        maple=dict(type="CLIPMaPLe"),
        independent_vl=dict(type="IndependentVL"),
        linear_probe=dict(type="CLIPLinearProbe", num_classes=len(CLASSES)),
        linear_probing=dict(type="LinearProbing"),
        lora=dict(type="LoRA", rank=2),
        bitfit=dict(type="BitFit"),
        full_fine_tuning=dict(type="FullFineTuning"),
    ),
)
RUNS = dict(glip="sdpt", clip="mudpt")


def host_configs() -> dict[str, dict]:
    """The hosts at their smallest."""
    glip = Config.fromfile(str(MODEL_CONFIGS / "mini_glip.py")).model
    glip.backbone.update(embed_dims=8, depths=[1, 1, 1], num_heads=[1, 2, 2])
    glip.neck.update(in_channels=[16, 32], out_channels=32)
    glip.bbox_head.update(
        in_channels=32, feat_channels=32, num_dyhead_blocks=2, lang_model_name=BERT
    )
    glip.bbox_head.fusion.update(embed_dim=32, num_heads=2)
    glip.language_model.update(name=BERT, pretrained=False)
    clip = Config.fromfile(str(MODEL_CONFIGS / "clip_vit_b16.py")).model
    arch = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=32)
    clip.vision_backbone.update(arch=arch, img_size=SIZES["clip"], patch_size=8)
    clip.projection.update(in_channels=24, out_channels=16)
    clip.text_backbone.update(width=16, layers=3, heads=2)
    clip.update(
        tokenizer=dict(folder="mmsdpt://mini_clip"),
        vocab_size=4610,
        transformer_width=16,
        proj_dim=16,
        classes=list(CLASSES),
    )
    return dict(glip=glip.to_dict(), clip=clip.to_dict())


def check_complete(configs: dict[str, dict]) -> None:
    """Every method that fits on a host has a file."""
    for host, config in configs.items():
        kinds = set(build(host, config).seams())
        fitting = {
            name
            for name, cls in MODELS.module_dict.items()
            if inspect.isclass(cls) and issubclass(cls, Tuner) and set(cls.needs) <= kinds
        }
        assert fitting == {tuner["type"] for tuner in TUNERS[host].values()}, host


def train(model: nn.Module, host: str) -> None:
    """A few steps; every tensor must move."""
    model.tuners["default"].prepare()
    before = {name: p.detach().clone() for name, p in model.tuners.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(v for k, v in losses(model, host).items() if "loss" in k).backward()
        optimizer.step()
    model.eval()
    still = [name for name, p in model.tuners.named_parameters() if torch.equal(p, before[name])]
    assert not still, still


@torch.no_grad()
def unseen(model: nn.Module, host: str, wanted: dict) -> list[str]:
    """Tensors of a tuner that the numbers do not depend on."""
    found = []
    if len(list(model.tuners.parameters())) > 60:
        return found  # copies of the host's, which would take minutes
    for name, value in model.tuners.named_parameters():
        before = value.clone()
        value += torch.linspace(0.1, 0.2, value.numel()).view_as(value).to(value)
        if worst(numbers(model, host), wanted) < 1e-7:
            found.append(name)
        value.copy_(before)
    return found


def main() -> None:
    configs = host_configs()
    check_complete(configs)
    files = {}
    for host, tuners in TUNERS.items():
        (FOLDER / host).mkdir(exist_ok=True)
        for name, settings in tuners.items():
            tuner = {**settings, "type": f"mmsdpt.{settings['type']}"}
            model = build(host, configs[host], tuner)
            train(model, host)
            path = save_tuner(model, FOLDER / host / f"{name}.safetensors")
            fresh = build(host, configs[host], tuner)
            untrained = numbers(build(host, configs[host], tuner), host)
            load_tuner(fresh, path)
            found = numbers(fresh, host)
            assert worst(untrained, found) > 1e-6, name
            assert worst(numbers(fresh, host), found) == 0, f"{name}: random"
            # Attention does not depend on the biases of its keys.
            hidden = [n for n in unseen(fresh, host, found) if not n.endswith("key__bias")]
            assert not hidden, f"{name}: the numbers do not depend on {hidden}"
            files[f"{host}/{name}"] = dict(host=host, tuner=tuner, numbers=found)
    runs = {}
    for host, name in RUNS.items():
        tuner = files[f"{host}/{name}"]["tuner"]
        with tempfile.TemporaryDirectory() as folder:
            runner, found = make_run(host, build(host, configs[host], tuner), Path(folder))
            runner.train()
            shutil.copy(Path(folder) / "epoch_2.pth", FOLDER / host / "run.pth")
        runs[host] = dict(
            tuner=tuner, losses=found.of_step, numbers=numbers(runner.model.cpu(), host)
        )
    content = dict(version=__version__, torch=torch.__version__, hosts=configs)
    RECORDS.write_text(json.dumps({**content, "files": files, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
