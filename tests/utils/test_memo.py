"""What is kept is never older than what it was computed from."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmsdpt.utils.memo import Memo


class Double:
    """Twice a weight, and how often it was computed."""

    def __init__(self, size=1):
        self.linear, self.memo, self.count = nn.Linear(2, 3), Memo(size), 0

    def compute(self):
        self.count += 1
        return 2 * self.linear.weight

    def __call__(self, key=0, *others):
        return self.memo.depend_on(self.linear.parameters(), *others).get(key, self.compute)


@pytest.mark.parametrize("way", ["in place", "load", "assign", "new parameter", "dtype", "other"])
def test_a_change_of_what_a_value_depends_on_makes_a_new_one(way):
    double = Double()
    double(0, "before")
    assert double(0, "before") is double(0, "before") and double.count == 1
    linear, state = double.linear, nn.Linear(2, 3).state_dict()
    with torch.no_grad():
        if way == "in place":
            linear.weight[0] += 1
        elif way in ("load", "assign"):
            linear.load_state_dict(state, assign=way == "assign")
        elif way == "new parameter":
            linear.weight = nn.Parameter(state["weight"])
        elif way == "dtype":  # there and back: other numbers, possibly where the old ones were
            linear.bfloat16().float()
    value = double(0, "after" if way == "other" else "before")
    assert double.count == 2 and torch.equal(value, 2 * linear.weight)


def test_autocast_makes_a_new_value():
    double = Double()
    double()
    with torch.autocast("cpu", torch.bfloat16):
        double()
    assert double.count == 2


def test_a_value_made_in_inference_mode_serves_training_and_has_no_gradient():
    double = Double()
    with torch.inference_mode():
        value = double()
    assert double() is value and not value.is_inference() and not value.requires_grad
    (value * torch.ones(3, 2, requires_grad=True)).sum().backward()


def test_the_value_unused_for_longest_goes_first():
    double = Double(size=2)
    for key in (0, 1, 0, 2, 0):  # 1 goes
        double(key)
    assert double.count == 3
    double(1)
    assert double.count == 4


def test_a_copy_starts_empty():
    memo = Memo(3)
    memo.get("a", lambda: 1)
    for other in (copy.deepcopy(memo), pickle.loads(pickle.dumps(memo))):
        assert other.size == 3 and other.get("a", lambda: 2) == 2
    assert memo.get("a", lambda: 2) == 1
