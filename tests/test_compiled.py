"""Compiling the generator: a measurement decides, and where it cannot be done training goes on without it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from subprocess import CalledProcessError

import pytest

from lipwright.training.compiled import SHAPES, compiled_seconds


class Network:
    """Something that can be compiled, or not, and whose steps take the time that is given."""

    def __init__(self, steps: list[float], fault: Exception | None = None) -> None:
        self.steps, self.fault, self.clock = list(steps), fault, 0.0
        self.asked: list[bool] = []

    def compile(self, *, dynamic: bool) -> None:
        self.asked.append(dynamic)

    def step(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.clock += self.steps.pop(0)

    def seconds(self) -> float:
        before = self.clock
        self.step()
        return self.clock - before


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Network, float], float | None]:
    def measure(network: Network, seconds: float) -> float | None:
        monkeypatch.setattr("lipwright.training.compiled.time.monotonic", lambda: network.clock)
        return compiled_seconds(network, network.step, network.seconds, 0.2, seconds)

    return measure


def test_it_is_used_where_what_it_saves_is_more_than_it_costs(timed: Callable[[Network, float], float | None]) -> None:
    network = Network([30.0, 0.1])
    assert timed(network, 2 * SHAPES * 30 + 1) == pytest.approx(0.1)
    assert network.asked == [False]
    assert timed(Network([30.0, 0.1]), 2 * SHAPES * 30 - 1) is None


def test_a_step_that_gets_slower_is_never_used(timed: Callable[[Network, float], float | None]) -> None:
    assert timed(Network([0.0, 0.21]), 1e9) is None


@pytest.mark.parametrize(
    "fault",
    [RuntimeError("no triton\nand much more"), ImportError("triton"), CalledProcessError(1, "cc"), OSError("cc")],
)
def test_where_it_cannot_be_done_one_line_says_so(
    timed: Callable[[Network, float], float | None], fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert timed(Network([], fault), 1e9) is None
    assert "cannot be used here" in caplog.text and "much more" not in caplog.text


def test_a_mistake_of_ours_is_not_swallowed(timed: Callable[[Network, float], float | None]) -> None:
    with pytest.raises(KeyError):
        timed(Network([], KeyError("batch")), 1e9)
