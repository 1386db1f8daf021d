"""Promises of EarlyStoppingHook that no whole run shows; tests/test_odinw_configs.py has one."""

from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from mmsdpt.engine.hooks import EarlyStoppingHook


class Log(list):
    def info(self, text: str) -> None:
        self.append(text)

    warning = info


@pytest.fixture
def runner(request):
    return SimpleNamespace(
        message_hub=MessageHub.get_instance(request.node.name),
        train_loop=SimpleNamespace(stop_training=False),
        logger=Log(),
    )


def evaluations_until_stop(hook: EarlyStoppingHook, runner, scores: list[float]) -> int | None:
    for count, score in enumerate(scores, 1):
        runner.message_hub.update_scalar("val/score", score)
        hook.after_val_epoch(runner, dict(score=score))
        if runner.train_loop.stop_training:
            return count
    return None


@pytest.mark.parametrize(
    ("rule", "scores", "stop"),
    [
        ("greater", [0.1, 0.3, 0.2, 0.3, 0.3], 5),  # to equal the best is no improvement
        ("greater", [0.1, 0.3, 0.2, 0.2, 0.4, 0.5], None),
        ("less", [3.0, 1.0, 2.0, 1.0, 1.5], 5),
        ("less", [3.0, 2.9, 2.8, 2.7], None),
        # What is no score is neither the best one nor an evaluation without a better one.
        ("greater", [0.3, float("nan"), 0.4, 0.5, 0.6, 0.7], None),
        ("less", [-1.0, 0.5, 0.4, 0.3, 0.2, 0.1], None),
        ("greater", [0.5, 0.4, -1.0, float("inf"), 0.4, 0.4], 6),
    ],
)
def test_the_run_ends_after_patience_evaluations_without_a_new_best(runner, rule, scores, stop):
    assert evaluations_until_stop(EarlyStoppingHook("score", 3, rule), runner, scores) == stop


def test_an_evaluation_without_the_score_does_not_count_and_says_so(runner):
    hook = EarlyStoppingHook("score", patience=1)
    hook.after_val_epoch(runner, dict(other=1.0))
    assert not runner.train_loop.stop_training
    assert "did not find score in this evaluation; its scores are: other" in runner.logger[0]


def test_a_resumed_run_that_had_come_to_its_end_ends(runner):
    """Its checkpoint may have the last score, so that it does not validate again."""
    assert evaluations_until_stop(EarlyStoppingHook("score", 2), runner, [0.3, 0.2, 0.1]) == 3
    for patience in (3, 2):
        runner.train_loop.stop_training = False
        EarlyStoppingHook("score", patience).before_train(runner)
        assert runner.train_loop.stop_training == (patience == 2)
    EarlyStoppingHook("unknown", patience=1).before_train(runner)


@pytest.mark.parametrize("wrong", [dict(rule="more"), dict(patience=0)])
def test_settings_without_a_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        EarlyStoppingHook(**{"monitor": "score", "patience": 2, **wrong})
