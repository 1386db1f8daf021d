"""The cache of Tip-Adapter is filled with augmented training images, once, before anything else."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mmsdpt.tuners import TipAdapter
from tests.hosts.small_clip import NAMES
from tests.tuners.contract_cases import Run, different
from tests.tuners.contract_clip import CLIPHost

EPOCHS = 3


def test_a_run_trains_the_keys_of_its_images_and_a_resumed_one_does_not_fill_again(tmp_path):
    host = CLIPHost.build(tmp_path)
    host.hooks = (*CLIPHost.hooks, dict(type="mmsdpt.TipAdapterHook", passes=2))
    config = host.config_of(TipAdapter, shots=2)
    start = 1e-9  # so small a rate that the keys stay what they were filled with
    with host.attached(default=config) as model:
        filled = Run(host, model, dict(type="SGD", lr=start), tmp_path / "filled", EPOCHS)
    data = host.model.data_preprocessor(host.collate([host.item()]), False)
    f = F.normalize(host.model.encode_untuned_image(data["images"]), dim=-1)
    keys, labels = (filled.state[f"tuners.default.{name}"] for name in ("keys", "labels"))
    own = int(data["data_samples"][0].gt_label)
    # The run's data are two copies of one image, without augmentation.
    assert labels.tolist() == [own if i // 2 == own else -1 for i in range(2 * len(NAMES))]
    assert torch.allclose(keys[labels == own], f.expand(2, -1), atol=1e-5)
    assert not keys[labels < 0].any()
    with host.attached(default=config) as model:
        run = Run(host, model, dict(type="SGD", lr=0.5), tmp_path / "run", EPOCHS)
    assert different(run.state, filled.state) == ["tuners.default.keys"]
    checkpoint = tmp_path / "run" / f"epoch_{EPOCHS - 1}.pth"
    with host.attached(seed=1, default=config) as model:
        resumed = Run(host, model, dict(type="SGD", lr=0.5), tmp_path / "on", EPOCHS, checkpoint)
    assert different(resumed.state, run.state) == []
