"""The generator compiled by torch, where that pays: a measurement decides, and training goes on without it if it fails.

Only graphics cards are asked. On the processor a step is nearly all convolutions of a library that compiling leaves as
they are, and a compiler for C++ would be needed, which few users have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from subprocess import SubprocessError
from typing import Protocol

log = logging.getLogger(__name__)

#: Shapes of batches that the speaking phases come in, each compiled by itself: two sizes, single samples and clips.
SHAPES = 4


class Compilable(Protocol):
    """A torch module."""

    def compile(self, *, dynamic: bool) -> None:
        """As ``torch.nn.Module.compile``."""


def compile_in_place(network: Compilable) -> None:
    """Let ``network(...)`` run compiled from now on; its weights keep their names, other methods stay as they are."""
    network.compile(dynamic=False)


def compiled_seconds(
    network: Compilable, step: Callable[[], object], steady: Callable[[], float], plain: float, seconds: float
) -> float | None:
    """Seconds that a step of training takes with ``network`` compiled; None where that does not pay or cannot be done.

    Args:
        network: compiled afterwards, or half compiled: not to be used any more.
        step: takes a whole training step with it, and returns when that is done.
        steady: seconds that one of many such steps takes, measured as ``plain`` was.
        plain: seconds that a step takes without.
        seconds: time that such steps are going to fill.
    """
    try:
        compile_in_place(network)
        first = _timed(step)
        each = steady()
    except (RuntimeError, ImportError, OSError, SubprocessError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        log.info("torch.compile cannot be used here (%s): training without it", reason)
        return None
    gained = seconds * (1 - each / plain) - SHAPES * first
    log.info(
        "a step takes %.3f s, %.3f s compiled, and compiling %.0f s for each of %d shapes: %s",
        *(plain, each, first, SHAPES, "it pays" if gained > 0 else "it does not pay"),
    )
    return each if gained > 0 else None


def _timed(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began
