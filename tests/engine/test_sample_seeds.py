"""Each training sample is drawn under a seed of its own, whoever loads it."""

import random
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from mmsdpt.engine.sample_seeds import seed_samples


class Draws(Dataset):
    """Item i: i and one draw of each generator."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


class Repeating(DefaultSampler):
    """Every index twice in an epoch."""

    def __iter__(self):
        for index in list(super().__iter__()):
            yield from (index, index)


def make_loader(sampler=DefaultSampler, workers=0, seed=7, rank=0, world_size=1):
    data = Draws()
    own = sampler(data, shuffle=True, seed=1)
    own.rank, own.world_size = rank, world_size
    if isinstance(own, DefaultSampler):
        own.num_samples = 6 // world_size
    runner = SimpleNamespace(_train_loop=None, seed=seed, rank=rank, world_size=world_size)
    loader = DataLoader(
        data,
        batch_size=2,
        sampler=own,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=list,
    )
    seed_samples(loader, runner)
    return loader


def drawn(loader):
    return [sample for batch in loader for sample in batch]


def test_the_draws_are_those_without_workers():
    expected = drawn(make_loader())
    assert len({sample[1:] for sample in expected}) == 6
    assert drawn(make_loader(workers=2)) == expected
    assert drawn(make_loader(seed=8)) != expected


def test_loading_leaves_the_generators_of_training_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    generator = torch.Generator()
    loader = make_loader()
    loader.generator = generator
    drawn(loader)
    assert torch.equal(torch.rand(4), expected)


def test_two_processes_draw_what_one_draws():
    expected = {sample[0]: sample for sample in drawn(make_loader())}
    found = drawn(make_loader(world_size=2)) + drawn(make_loader(rank=1, world_size=2))
    assert {sample[0]: sample for sample in found} == expected


def test_a_sample_that_is_repeated_is_drawn_again():
    samples = drawn(make_loader(Repeating))
    assert len(samples) == 12 and len(set(samples)) == 12


def test_an_infinite_sampler_that_skips_continues_where_it_would_have_been():
    whole = iter(make_loader(InfiniteSampler))
    straight = [next(whole) for _ in range(8)]
    loader = make_loader(InfiniteSampler)
    if hasattr(loader.sampler, "skip"):  # in later versions of MMEngine
        loader.sampler.skip(8)
        rest = iter(loader)
    else:
        rest = iter(loader)
        for _ in range(4):
            next(rest)
    assert [next(rest) for _ in range(4)] == straight[4:]


def test_the_dataset_itself_is_as_before():
    loader = make_loader()
    torch.manual_seed(0)
    first = loader.dataset[0][3]
    assert loader.dataset[0][3] != first
    assert isinstance(loader.sampler, DefaultSampler)
