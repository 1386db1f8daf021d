"""The linear probe: W x + b on image features, fitted as CoOp's authors fit theirs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.logistic_regression import search_logistic_regression
from tests.hosts.small_clip import NAMES, make_images, make_samples, tuned_clip
from tests.oracles.clip import plain_image

COUNT = len(NAMES)
WIDTH = 96


def build(num_classes: int = COUNT, **changes) -> nn.Module:
    return tuned_clip(dict(type="mmsdpt.CLIPLinearProbe", num_classes=num_classes), **changes)


def clusters(per_class: int, num_classes: int = COUNT, seed: int = 0, width: int = WIDTH):
    """Features (N, e) around a centre for each class, and labels (N,)."""
    centres = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_classes).repeat(per_class)
    noise = torch.randn(len(labels), width, generator=generator)
    return centres[labels] + 2.5 * noise, labels


def test_logits_are_a_plain_product_with_features_that_are_not_normalised():
    model = build().double()
    tuner, images = model.tuners["default"], make_images(3)
    with torch.no_grad():
        tuner.weight.normal_()
        tuner.bias.normal_()
        found = model(images)
        for row, image in zip(found, images, strict=True):
            feature = plain_image(model, image)
            assert not torch.isclose(feature.norm(), torch.ones_like(feature.norm()))
            wanted = torch.stack(
                [w @ feature + b for w, b in zip(tuner.weight, tuner.bias, strict=True)]
            )
            assert (row - wanted).abs().max() < 1e-9


@torch.no_grad()
def test_logits_are_computed_in_float32_under_autocast():
    model = build()
    tuner, images = model.tuners["default"], make_images(3).float()
    tuner.weight.normal_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = ForwardState(images=images, class_names=NAMES)
        model.encode_image(images, state)
        found = tuner._classify(None, torch.zeros(3, COUNT), state)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, state.pooled_image @ tuner.weight.t(), rtol=0, atol=1e-4)


def test_it_starts_undecided():
    assert torch.equal(build()(make_images(2).float()), torch.zeros(2, COUNT))


def test_image_prompts_beside_it_learn_and_act():
    tuners = dict(
        probe=dict(type="mmsdpt.CLIPLinearProbe", num_classes=COUNT),
        prompts=dict(type="mmsdpt.CLIPVPT"),
    )
    model = tuned_clip(None, tuners=tuners)
    with torch.no_grad():
        model.tuners["probe"].weight.normal_()
    loss = model(make_images(2).float(), make_samples(2), mode="loss")["loss"]
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in model.tuners.parameters())


def test_what_trains_on_the_texts_alone_is_refused_beside_it():
    """It would get no gradient."""
    for frozen in (False, True):
        tuners = dict(
            probe=dict(type="mmsdpt.CLIPLinearProbe", num_classes=COUNT),
            texts=dict(type="mmsdpt.CLIPCoOp", frozen=frozen),
        )
        model = tuned_clip(None, tuners=tuners)
        batch = make_images(2).float(), make_samples(2)
        if frozen:
            model(*batch, mode="loss")["loss"].backward()
            continue
        with pytest.raises(ValueError, match="no gradient, so they cannot be stacked: freeze or"):
            model(*batch, mode="loss")
        with torch.no_grad():
            model(*batch, mode="loss")


# ---------------------------------------------------------------------- classes


def other_classes(model: nn.Module, names: tuple[str, ...]) -> str:
    model.set_classes(names)
    with pytest.raises(ValueError) as caught:
        model(make_images(1).float())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_knows_only_the_classes_that_it_was_trained_on(tmp_path):
    """Also of those that are as many, as base and new classes often are."""
    model = build()
    few = other_classes(model, NAMES[:2])
    assert "num_classes=4, but the model has 2 classes: a linear probe knows only" in few
    model.set_classes(NAMES)
    model.eval()(make_images(1).float())
    others = ("moon", "sun", "star", "sea")
    model.set_classes(others)
    model(make_images(1).float())  # nothing was trained yet
    model.set_classes(NAMES)
    model.train()(make_images(1).float(), make_samples(1), mode="loss")
    model.eval()
    words = "was trained on 4 other classes than moon, sun, star, ...: a linear probe knows only"
    assert words in other_classes(model, others)
    path = save_tuner(model, tmp_path / "probe.safetensors")
    fresh = build()
    load_tuner(fresh, path)
    assert "other classes" in other_classes(fresh, others)
    fresh.set_classes(NAMES)
    assert torch.equal(fresh(make_images(1).float()), torch.zeros(1, COUNT))


def test_rows_follow_the_names_in_another_order(tmp_path):
    model = build()
    model.set_classes(NAMES)
    model.train()(make_images(1).float(), make_samples(1), mode="loss")
    probe = model.eval().tuners["default"]
    with torch.no_grad():
        probe.weight.normal_()
        probe.bias.normal_()
    fresh = build()
    load_tuner(fresh, save_tuner(model, tmp_path / "probe.safetensors"))
    images, order = make_images(2).float(), [2, 0, 3, 1]
    for each in (model, fresh):
        each.eval().set_classes(NAMES)
        straight = each(images)
        each.set_classes([NAMES[i] for i in order])
        assert torch.equal(each(images), straight[:, order])


# ---------------------------------------------------------------------- fitting


def authors_search(train, val) -> tuple[np.ndarray, np.ndarray]:
    """The search of CoOp's linear probe, step by step."""
    from sklearn.linear_model import LogisticRegression

    def fitted(strength):
        model = LogisticRegression(solver="lbfgs", max_iter=1000, C=strength).fit(*train)
        return np.mean(model.predict(val[0]) == val[1]), model

    grid = [1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6]
    peak = grid[int(np.argmax([fitted(strength)[0] for strength in grid]))]
    left, right = 1e-1 * peak, 1e1 * peak
    for _ in range(8):
        acc_left, model_left = fitted(left)
        acc_right, model_right = fitted(right)
        if acc_left < acc_right:
            best = model_right
            left, right = 0.5 * (np.log10(right) + np.log10(left)), np.log10(right)
        else:
            best = model_left
            left, right = np.log10(left), 0.5 * (np.log10(right) + np.log10(left))
        left, right = np.power(10, left), np.power(10, right)
    return best.coef_, best.intercept_, best.C


@pytest.mark.parametrize("seed", [0, 1])
def test_the_search_is_that_of_the_authors(seed):
    features, labels = (part.numpy() for part in clusters(6, seed=seed, width=12))
    val, val_labels = (part.numpy() for part in clusters(15, seed=seed + 2, width=12))
    weight, bias, strength = search_logistic_regression(features, val, labels, val_labels)
    wanted = authors_search((features, labels), (val, val_labels))
    assert strength == pytest.approx(wanted[2], rel=1e-9)
    assert np.abs(weight - wanted[0]).max() < 1e-4 * np.abs(wanted[0]).max()
    assert np.abs(bias - wanted[1]).max() < 1e-4 * max(np.abs(wanted[1]).max(), 1)


def test_fitted_on_features_of_images_it_classifies_them():
    model = build()
    tuner, images = model.tuners["default"], make_images(12).float()
    state = ForwardState(images=images)
    with torch.no_grad(), model.tuners_off():
        model.encode_image(images, state)
    labels = torch.arange(12) % COUNT
    features: Tensor = state.pooled_image
    tuner.fit(features, labels, features, labels, NAMES)
    assert tuner.weight.dtype == torch.float32 and tuner.weight.requires_grad
    with torch.no_grad():
        assert (model(images).argmax(dim=1) == labels).float().mean() == 1
    assert "other classes" in other_classes(model, ("moon", "sun", "star", "sea"))


def test_probabilities_are_those_of_scikit_learn_for_two_classes_and_more():
    from sklearn.linear_model import LogisticRegression

    for count in (2, 3):
        features, labels = clusters(8, count)
        val, val_labels = clusters(4, count, seed=1)
        tuner = build(count, classes=NAMES[:count]).tuners["default"]
        strength = tuner.fit(features, labels, val, val_labels, NAMES[:count])
        wanted = LogisticRegression(max_iter=1000, C=strength).fit(features, labels)
        found = (val @ tuner.weight.T + tuner.bias).softmax(dim=1).detach()
        assert found.shape == (len(val), count)
        assert np.abs(found.numpy() - wanted.predict_proba(val)).max() < 1e-3


def test_one_validation_image_is_enough():
    features, labels = clusters(2)
    build().tuners["default"].fit(features, labels, features[:1], labels[:1], NAMES)


def test_a_fit_that_stopped_early_is_told(monkeypatch):
    told = []
    monkeypatch.setattr("mmsdpt.utils.logistic_regression._MAX_ITER", 1)
    monkeypatch.setattr(
        "mmsdpt.utils.logistic_regression.print_log", lambda text, **_: told.append(text)
    )
    build().tuners["default"].fit(*clusters(2), *clusters(1), NAMES)
    assert "stopped after 1 iterations, before it converged" in told[0]


def test_what_cannot_be_fitted_is_refused():
    tuner = build().tuners["default"]
    features, labels = clusters(2)
    before = tuner.weight.clone()
    for arguments, words in (
        ((features, labels, features, labels, NAMES[:3]), "expected 4 class names, got 3"),
        ((features[:, :5], labels, features, labels, NAMES), r"^features must be \(N, 96\)"),
        ((features, labels, features[:0], labels[:0], NAMES), "^val_features must be .* least 1"),
        ((features, labels[1:], features, labels, NAMES), r"got \(8, 96\) and \(7,\)"),
        ((features, labels.clamp(max=2), features, labels, NAMES), r"0 to 3, got \[0, 1, 2\]"),
        ((features, labels + 1, features, labels, NAMES), r"0 to 3, got \[1, 2, 3, 4\]"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            tuner.fit(*arguments)
        assert "\n" not in str(caught.value)
    assert torch.equal(tuner.weight, before)


def test_a_number_of_classes_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="num_classes must be a positive integer"):
        build(0)
