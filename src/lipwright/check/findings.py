"""One line of a report: what was looked at, what was seen, what was allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

Verdict = Literal["good", "broken", "unmeasured", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    section: str
    """contract, parity, fast path, checkpoints, vectors, or quality when it was made."""
    what: str
    seen: str
    """The value, or what was found."""
    limit: str
    """What is allowed; empty where there is nothing to keep."""
    verdict: Verdict
    """``broken`` ends the command with exit code 1; ``unmeasured`` could not be judged and says why."""

    @classmethod
    def limited(cls, section: str, what: str, seen: str, limit: str, good: bool) -> Self:
        """Judged by a limit."""
        return cls(section, what, seen, limit, "good" if good else "broken")

    @classmethod
    def unmeasured(cls, section: str, what: str, why: str, limit: str = "") -> Self:
        """It could not be judged."""
        return cls(section, what, why, limit, "unmeasured")

    @classmethod
    def note(cls, section: str, what: str, seen: str) -> Self:
        """Worth knowing; no limit."""
        return cls(section, what, seen, "", "note")
