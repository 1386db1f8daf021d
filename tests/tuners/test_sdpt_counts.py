"""SDPT trains as many parameters as it says, at the real models' sizes."""

import pytest
import torch
from torch import nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.seams import FusionSeam, SeamMap
from mmsdpt.tuners.files import save_tuner

GLIP_L, GLIP_T = 8, 6  # fusion layers
WIDTHS = dict(image=256, text=768, joint=2048, heads=8)


class Seams(TunableMixin, nn.Module):
    """The fusion seams of GLIP, all on one pair of projections."""

    def __init__(self, num_layers, **tuner):
        super().__init__()
        self.v_proj, self.l_proj = nn.Linear(256, 2048), nn.Linear(768, 2048)
        self.points = [
            FusionSeam(i, WIDTHS, dict(image=self.v_proj, text=self.l_proj))
            for i in range(num_layers)
        ]
        self._attach_tuners(dict(type="mmsdpt.SDPT", **tuner), None, None)

    def seams(self):
        return SeamMap("Seams", dict(fusion=self.points))


def counts(num_layers, **tuner):
    with torch.device("meta"):
        host = Seams(num_layers, **tuner)
    real = sum(p.numel() for p in host.parameters() if p.requires_grad)
    return real, host.tuners["default"].num_trainable()


LEARNABLE = dict(num_tokens=200, projection="learnable")


@pytest.mark.parametrize(
    ("layers", "tuner", "expected"),
    [
        (GLIP_L, dict(num_tokens=10), 163_840),
        (GLIP_L, dict(num_tokens=120), 1_966_080),
        (GLIP_L, dict(num_tokens=200), 3_276_800),
        (GLIP_T, dict(num_tokens=10), 122_880),
        (GLIP_L, dict(num_tokens=200, share=False), 6_553_600),
        # tokens + 8 layers x (2048 x width + width)
        (GLIP_L, dict(LEARNABLE, sides="image"), 3_276_800 + 4_196_352),
        (GLIP_L, dict(LEARNABLE, sides="text"), 3_276_800 + 12_589_056),
        (GLIP_L, LEARNABLE, 3_276_800 + 4_196_352 + 12_589_056),
    ],
)
def test_parameters_at_the_sizes_of_glip(layers, tuner, expected):
    assert counts(layers, **tuner) == (expected, expected)


@pytest.mark.parametrize("layers", [None, [0], [-1, 2]])
@pytest.mark.parametrize("projection", ["inverse", "learnable"])
@pytest.mark.parametrize(
    "sides",
    [
        dict(sides="dual"),
        dict(sides="image"),
        dict(sides="text"),
        dict(share=False),
        dict(mask_text_tokens=True),
        dict(mask_text_tokens=True, sides="image"),
    ],
    ids=str,
)
def test_the_closed_formula_is_the_real_count(layers, projection, sides):
    real, formula = counts(4, num_tokens=3, layers=layers, projection=projection, **sides)
    assert real == formula > 0


def test_a_tuner_file_of_glip_l_with_ten_tokens_has_less_than_a_megabyte(tmp_path):
    host = Seams(GLIP_L, num_tokens=10)
    assert save_tuner(host, tmp_path / "tuner.safetensors").stat().st_size < 1_000_000
