"""What does it cost to sign a film? Prints a Markdown table.

    python -m tools.signing_cost [--sound SPEECH.wav] [--repeats 5]

Renders the demo (or another sound) with the presenter in pairs, with credentials and without, in processes of their
own and in turns, as a user would; and times alone, in a process of its own too, all that credentials add to a render:
loading the library, reading the key, hashing the avatar's files, signing the finished film. The difference of a pair
also holds whatever else the machine did meanwhile; the time alone is what the aim is for. The machine should be idle.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lipwright.avatar import builtin_sound
from lipwright.credentials import Identity

#: Signing may cost this share of the render.
AIM = 0.02

SIGN = """
import sys, time
from pathlib import Path
from lipwright.avatar import Avatar, builtin_avatar
avatar, film = Avatar.open(builtin_avatar()), Path(sys.argv[1])
began = time.perf_counter()
from lipwright.avatar import Disclosure
from lipwright.credentials import Identity
Disclosure.of(avatar, Identity.local()).seal(film)
print(time.perf_counter() - began)
"""


@dataclass(frozen=True)
class Pair:
    """One film, rendered both ways; seconds."""

    plain: float
    """The whole command, without credentials."""
    signed: float
    """The whole command, with them."""
    alone: float
    """All that credentials add, timed alone."""

    @property
    def share(self) -> float:
        """What credentials add, as a share of the render without them."""
        return self.alone / self.plain


def measure(sound: Path, repeats: int) -> list[Pair]:
    """Render ``sound`` so many times both ways, every second time in the other order."""
    Identity.local()  # a key is made once in a user's life, not once a film
    return [_pair(sound, signed_first=bool(k % 2)) for k in range(repeats)]


def _pair(sound: Path, *, signed_first: bool) -> Pair:
    with tempfile.TemporaryDirectory() as scratch:
        plain, signed = Path(scratch, "plain.mp4"), Path(scratch, "signed.mp4")
        seconds: dict[Path, float] = {}
        for film in (signed, plain) if signed_first else (plain, signed):
            seconds[film] = _render(sound, film, [] if film == signed else ["--no-credentials"])
        return Pair(seconds[plain], seconds[signed], float(_python("-c", SIGN, str(plain))))


def _render(sound: Path, film: Path, options: Sequence[str]) -> float:
    began = time.perf_counter()
    _python("-m", "lipwright", "render", str(sound), "-o", str(film), *options)
    return time.perf_counter() - began


def _python(*args: str) -> str:
    return subprocess.run([sys.executable, *args], check=True, capture_output=True, text=True).stdout


def table(pairs: Sequence[Pair]) -> str:
    """The medians, with the least and the most, as Markdown."""
    rows = (
        ("render without credentials, s", [p.plain for p in pairs], ".2f"),
        ("render with credentials, s", [p.signed for p in pairs], ".2f"),
        ("with minus without, s", [p.signed - p.plain for p in pairs], ".2f"),
        ("all that credentials add, timed alone, s", [p.alone for p in pairs], ".3f"),
        ("the same as a share of the render, %", [100 * p.share for p in pairs], ".2f"),
    )
    head = [f"| {len(pairs)} pairs | median | least | most |", "|---|---|---|---|"]
    lines = [
        f"| {name} | " + " | ".join(format(value, form) for value in (median(values), min(values), max(values))) + " |"
        for name, values, form in rows
    ]
    return "\n".join([*head, *lines])


def main() -> int:
    """Command line; 1 where the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sound", type=Path, default=builtin_sound(), help="what is said (default: the demo)")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of renders")
    options = parser.parse_args()
    pairs = measure(options.sound, options.repeats)
    print(table(pairs))
    share = median(pair.share for pair in pairs)
    print(f"\nThe aim, less than {100 * AIM:g} % of the render, is {'kept' if share < AIM else 'missed'}.")
    return int(share >= AIM)


if __name__ == "__main__":
    sys.exit(main())
