"""How far a walk has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One report of progress."""

    step: str
    """What is done, in a few words."""
    done: float
    """In any unit."""
    total: float | None
    """In the same unit; None: not known."""

    @property
    def kind(self) -> str:
        """What is done, without how far: the same for every report of one stretch."""
        return self.step.partition(",")[0]
