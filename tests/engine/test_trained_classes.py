"""A run's checkpoint knows, as a tuner file does, which classes its tuners were trained on."""

from __future__ import annotations

import pytest
import torch

from mmsdpt.engine import TunerRunner
from tests.hosts.small_clip import NAMES
from tests.tuners.contract_clip import CLIPHost
from tests.tuners.contract_runs import Run

EPOCHS = 2
OWN = dict(per_class=True, num_classes=len(NAMES))
CACHE = dict(type="mmsdpt.TipAdapter", num_classes=len(NAMES), shots=2)
METHODS = {
    "a context for each class": (dict(default=dict(type="mmsdpt.CLIPCoOp", **OWN)), NAMES[::-1]),
    "a cache": (dict(default=CACHE), NAMES[::-1]),
    "tokens for known classes": (dict(default=dict(type="mmsdpt.MMRL")), (NAMES[0], "moon")),
    "the same, frozen below another": (
        dict(old=dict(type="mmsdpt.MMRL", frozen=True), new=dict(type="mmsdpt.CLIPAdapter")),
        NAMES,  # of which the first tuner, below, knows one
    ),
}
# Older versions did not write what frozen tuners had been trained on.
CASES = [
    (name, older)
    for name in METHODS
    for older in (False, True)
    if not older or "old" not in METHODS[name][0]
]


@pytest.mark.parametrize(("method", "older"), CASES)
def test_a_checkpoint_predicts_as_the_run_that_wrote_it_on_any_classes(tmp_path, method, older):
    slots, names = METHODS[method]
    host = CLIPHost.build(tmp_path)
    if "cache" in method:
        host.hooks = (*CLIPHost.hooks, dict(type="mmsdpt.TipAdapterHook", passes=1))
    images, _ = host.batch(2)
    with host.attached(**slots) as model:
        if "old" in slots:
            model.tuners["old"].trained_classes = (NAMES[0], "moon")
        Run(host, model, dict(type="SGD", lr=0.1), tmp_path / "run", EPOCHS)
        model.set_classes(names)
        expected = model(images)
    path = tmp_path / "run" / f"epoch_{EPOCHS}.pth"
    if older:
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["meta"]["trained_classes"]
        torch.save(checkpoint, path)
    with host.attached(seed=1, **slots) as model:
        runner = TunerRunner(
            model=model, work_dir=str(tmp_path), experiment_name=method, default_scope="mmpretrain"
        )
        runner.load_trained(str(path), next(iter(slots)))
        model.set_classes(names)
        assert torch.equal(model(images), expected)
