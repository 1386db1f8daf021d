"""Promises of the protocols' sampling: CoOp's shots, CoCoOp's halves."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict

import pytest

from mmsdpt.datasets.classification import (
    ClassificationData,
    Item,
    read_split,
    sample_few_shot,
    select_classes,
)
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import make_dataset


def dassl_few_shot(data: list[Item], num_shots: int) -> list[Item]:
    """``DatasetBase.generate_fewshot_dataset(repeat=False)`` of Dassl, on the global generator."""
    tracker = defaultdict(list)
    for item in data:
        tracker[item.label].append(item)
    dataset = []
    for items in tracker.values():
        if len(items) >= num_shots:
            dataset.extend(random.sample(items, num_shots))
        else:
            dataset.extend(items)
    return dataset


def cocoop_subsample(data: list[Item], names: list[str], subsample: str):
    """``OxfordPets.subsample_classes`` of CoCoOp."""
    found = sorted(set(item.label for item in data))
    m = math.ceil(len(found) / 2)
    selected = found[:m] if subsample == "base" else found[m:]
    relabeler = {y: y_new for y_new, y in enumerate(selected)}
    kept = [Item(i.path, relabeler[i.label], i.class_name) for i in data if i.label in selected]
    return kept, tuple(names[y] for y in selected)


def mixed_items(split: str, counts: list[int]) -> list[Item]:
    """Items whose classes first appear in another order than that of their labels."""
    items = [
        Item(f"{split}/{label}/{i}.jpg", label, f"class_{label}")
        for label, count in enumerate(counts)
        for i in range(count)
    ]
    random.Random(7).shuffle(items)
    return items


@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shots_are_those_of_coop(shots, seed):
    train, val = mixed_items("train", [20, 18, 3, 30, 16]), mixed_items("val", [4, 9, 1, 5, 6])
    random.seed(seed)
    expected = dassl_few_shot(train, shots), dassl_few_shot(val, min(shots, 4))
    assert sample_few_shot(train, val, shots, seed) == expected


def test_a_class_with_fewer_images_keeps_them_all():
    train = mixed_items("train", [20, 2, 20])
    drawn, _ = sample_few_shot(train, [], 4, 1)
    assert Counter(item.label for item in drawn) == {0: 4, 1: 2, 2: 4}
    assert len(set(drawn)) == 10


@pytest.mark.parametrize("num_classes", [2, 5, 10, 37])
@pytest.mark.parametrize("subset", ["base", "new"])
def test_halves_are_those_of_cocoop(num_classes, subset):
    items = mixed_items("test", [3] * num_classes)
    names = [f"class_{label}" for label in range(num_classes)]
    assert select_classes(items, names, subset) == cocoop_subsample(items, names, subset)


@pytest.fixture
def pets(tmp_path):
    """Five classes of seven training, five validation and three test images, in mixed order."""
    home = make_dataset("oxford_pets", tmp_path, classes=5, per_class=(7, 5, 3))
    file = home / "split_zhou_OxfordPets.json"
    content = json.loads(file.read_text())
    for entries in content.values():
        random.Random(3).shuffle(entries)
    file.write_text(json.dumps(content))
    return tmp_path


def content(dataset: ClassificationData) -> list[tuple[str, int]]:
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [(info["img_path"], info["gt_label"]) for info in infos]


def test_the_dataset_samples_over_all_classes_and_then_filters(pets):
    splits = read_split(pets / "oxford_pets/split_zhou_OxfordPets.json", "oxford_pets/images")
    train, val = sample_few_shot(splits["train"], splits["val"], 6, seed=2)
    names = ["red_fox", "sea_lion", "owl", "tabby_cat", "ant"]
    for split, drawn, size in (("train", train, 6), ("val", val, 4)):
        for subset, classes in (("base", 3), ("new", 2)):
            data = ClassificationData(
                "oxford_pets", str(pets), split, shots=6, seed=2, classes=subset
            )
            kept, kept_names = cocoop_subsample(drawn, names, subset)
            assert content(data) == [(str(pets / item.path), item.label) for item in kept]
            assert len(data) == size * classes
            assert data.metainfo["classes"] == tuple(n.replace("_", " ") for n in kept_names)


def test_the_test_set_is_always_whole(pets):
    full = ClassificationData("oxford_pets", str(pets), "test")
    shots = ClassificationData("oxford_pets", str(pets), "test", shots=1, seed=3)
    assert content(full) == content(shots) and len(full) == 15


def test_base_and_new_together_are_the_test_set(pets):
    halves = [
        ClassificationData("oxford_pets", str(pets), "test", classes=subset)
        for subset in ("base", "new")
    ]
    whole = ClassificationData("oxford_pets", str(pets), "test")
    together = [(path, label) for path, label in content(halves[0])]
    together += [(path, label + 3) for path, label in content(halves[1])]
    assert sorted(together) == sorted(content(whole))
    assert (
        halves[0].metainfo["classes"] + halves[1].metainfo["classes"] == (whole.metainfo["classes"])
    )


def test_another_seed_is_another_choice_and_the_same_seed_the_same(pets):
    first, again, other = (
        content(ClassificationData("oxford_pets", str(pets), "train", shots=2, seed=seed))
        for seed in (1, 1, 2)
    )
    assert first == again and first != other


def test_validation_images_of_imagenet_are_training_images_beyond_the_shots(tmp_path):
    """So that a search on them, as Tip-Adapter's, does not see the test images."""
    make_dataset("imagenet", tmp_path, per_class=(7, 0, 6))
    train, val, test = (
        content(ClassificationData("imagenet", str(tmp_path), split, shots=5, seed=2))
        for split in ("train", "val", "test")
    )
    whole = content(ClassificationData("imagenet", str(tmp_path), "train"))
    assert (len(train), len(val), len(test)) == (15, 6, 18)
    assert sorted(train + val) == whole and not {*val} & {*test}
    items = [Item(path, label, "") for path, label in whole]
    assert train == [(x.path, x.label) for x in sample_few_shot(items, [], 5, 2)[0]]
    half = ClassificationData("imagenet", str(tmp_path), "val", shots=2, seed=2, classes="new")
    assert len(half) == 2
    with pytest.raises(InputError, match="no training images are left after shots=7"):
        ClassificationData("imagenet", str(tmp_path), "val", shots=7)


def test_without_shots_validation_on_imagenet_is_its_test_set(tmp_path):
    make_dataset("imagenet", tmp_path, per_class=(5, 0, 6))
    make_dataset("imagenetv2", tmp_path, per_class=(0, 0, 6))
    for name, shots in (("imagenet", None), ("imagenetv2", 2)):
        val = ClassificationData(name, str(tmp_path), "val", shots=shots)
        assert content(val) == content(ClassificationData(name, str(tmp_path), "test"))
        assert len(val) == 18
