"""How much of a person's lips the ear hears that a training begins with, all over the film.

    python -m tools.hearing PACK.npz [PACK.npz ...]

A training asks its ear only where it has put time aside, at the film's end (``lipwright.training.hearing``): a second
or two of a short film, which a single syllable may decide. Here each part of the film is put aside in turn, with a
second before and behind it, and asked by a read-out that was fitted on the rest. 1: the ear's words tell all of the
mouth code; 0 or below: nothing. PACK is what ``lipwright train AVATAR --pack`` writes; the ear is that of its base.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from lipwright.errors import LipwrightError
from lipwright.training.base import base_width, begin
from lipwright.training.hearing import heard
from lipwright.training.pack import Pack
from lipwright.training.speech import SpeechSampler, own_speech
from tools.running import in_a_sentence

#: Parts of a film, and frames of a part at least: a second.
PARTS, FEWEST = 10, 25


def all_over(pack: Pack) -> list[float]:
    """What the ear of the pack's base hears in each part of the film: at most `PARTS`, by time.

    Raises:
        LipwrightError: the pack has no base, or the film is too short for two parts.
    """
    if not pack.base:
        raise LipwrightError("the pack has no base: a training of it begins with an ear that hears nothing")
    frames, least = len(pack.mouth), 2 * FEWEST + 2 * pack.gap
    if frames < least:
        raise LipwrightError(f"the film has {frames} frames, {least} are the least")
    torch.manual_seed(0)  # of the parts of a student that its base does not hold, which nobody asks here
    student = begin(pack, base_width(pack.base), SpeechSampler(own_speech(pack), seed=0))
    student.eval()
    edges = [part * frames // parts_of(frames) for part in range(parts_of(frames) + 1)]
    asked = (replace(pack, held_out=span) for span in pairwise(edges))
    return [heard(student, each, torch.device("cpu")) for each in asked]


def parts_of(frames: int) -> int:
    """How many parts a film of so many frames is asked in."""
    return min(PARTS, frames // FEWEST)


def table(found: Sequence[tuple[str, str, Sequence[float]]]) -> list[str]:
    """Markdown: a line for each pack, its base's name, and what is heard in its parts; -: no face is seen there."""
    lines = ["| pack | base | heard, mean | by part |", "|---|---|---|---|"]
    for pack, base, parts in found:
        heard_in = [part for part in parts if not np.isnan(part)]
        mean = f"{np.mean(heard_in):.3f}" if heard_in else "-"
        each = ", ".join("-" if np.isnan(part) else f"{part:.2f}" for part in parts)
        lines.append(f"| {pack} | {base} | {mean} | {each} |")
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("packs", type=Path, nargs="+")
    options = parser.parse_args()
    with in_a_sentence():
        found = [(path.name, pack.base_name, all_over(pack)) for path in options.packs for pack in [Pack.load(path)]]
        print("\n".join(table(found)))


if __name__ == "__main__":
    main()
