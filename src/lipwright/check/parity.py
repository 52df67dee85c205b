"""Every way to run the generator against the plainest one, on the same real questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.avatar import Avatar
from lipwright.check.difference import Difference, Meter
from lipwright.check.findings import Finding
from lipwright.check.limits import Limits, limits_of
from lipwright.check.lips import likeness, lip_gaps, plain_frames
from lipwright.check.sheets import four_way, write_film, write_png
from lipwright.contract import FloatArray, UInt8Array
from lipwright.errors import LipwrightError, MissingExtraError, RuntimeUnavailableError
from lipwright.runtimes import Runtime
from lipwright.trial import REFERENCE, Question, Way

#: Frames on a sheet where none were chosen: evenly spread, and the worst.
SHEET_FRAMES = 4

Look = Callable[[int], None]
"""Hears that so many more frames are done."""


@dataclass(frozen=True)
class Reference:
    """The plainest way, and what it answered."""

    avatar: Avatar
    asked: Sequence[Question]
    sound: Path
    runtime: Runtime
    outputs: FloatArray
    """[n, 3, 320, 320] 0..1."""

    @cached_property
    def gaps(self) -> npt.NDArray[np.float64]:
        """Lip gaps of the finished frames."""
        return self.gaps_of(self.outputs)

    def gaps_of(self, outputs: Iterable[FloatArray]) -> npt.NDArray[np.float64]:
        """Lip gaps of the frames finished from ``outputs`` [3, 320, 320]."""
        return lip_gaps(plain_frames(self.avatar, list(self.asked), map(np.nan_to_num, outputs)))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way against the reference."""

    name: str
    """The way, as --runtime takes it."""
    detail: str
    """What was really active."""
    difference: Difference
    sheet: str
    """File name of its pictures."""
    film: str | None
    """File name of its film; None: not asked for."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is written for the eye."""

    folder: Path
    frames: tuple[int, ...] = ()
    """Template frames to show; none: evenly spread ones and the worst."""
    film: bool = False
    """Also all of them as a film."""


def ask(runtime: Runtime, asked: Iterable[Question], look: Look) -> FloatArray:
    """[n, 3, 320, 320] answers, one call each."""
    answers = []
    for question in asked:
        answers.append(runtime.run(*question.inputs)[0])
        look(1)
    return np.stack(answers)


def compare(
    way: Way, model: Path, reference: Reference, shown: Pictures, look: Look
) -> tuple[list[Finding], Comparison | None]:
    """One way against the reference: figures, limits and pictures.

    A way that this machine does not have is a finding, not an error.
    """
    limits = limits_of(way.precision)
    try:
        runtime = way.open(model)
        outputs = ask(runtime, reference.asked, look)
    except (RuntimeUnavailableError, MissingExtraError) as error:
        return [Finding.unmeasured("parity", str(way), str(error))], None
    except LipwrightError as error:
        return [Finding.limited("parity", str(way), str(error), "it runs", False)], None
    difference = measure(reference, outputs, limits)
    sheet, film = picture(way, reference, outputs, difference.worst, shown)
    comparison = Comparison(str(way), runtime.detail, difference, sheet, film)
    return list(difference.findings("parity", str(way), limits)), comparison


def measure(reference: Reference, outputs: FloatArray, limits: Limits) -> Difference:
    """The figures; lip gaps only where a limit asks for them, since finding faces takes its time."""
    meter = Meter()
    for expected, got in zip(reference.outputs, outputs, strict=True):
        meter.add(expected, got)
    difference = meter.result()
    if limits.lip_gap_r is None:
        return difference
    r = likeness(reference.gaps_of(outputs), reference.gaps)
    return replace(difference, lip_gap_r=r if difference.not_numbers == 0 else nan)


def picture(way: Way, reference: Reference, outputs: FloatArray, worst: int, shown: Pictures) -> tuple[str, str | None]:
    """Write the sheet, and the film if it is wanted; their names."""
    rows = [
        _row(question, one, other, str(way))
        for question, one, other in zip(reference.asked, reference.outputs, outputs, strict=True)
    ]
    sheet, film = f"sheet-{file_name(way)}.png", f"film-{file_name(way)}.mp4" if shown.film else None
    frames = [question.frame for question in reference.asked]
    write_png(np.concatenate([rows[k] for k in chosen(frames, worst, shown.frames)]), shown.folder / sheet)
    if film:
        write_film(rows, reference.sound, shown.folder / film)
    return sheet, film


def _row(question: Question, expected: FloatArray, got: FloatArray, way: str) -> UInt8Array:
    names = (f"input, template frame {question.frame}", f"{REFERENCE}/f32", way)
    return four_way(question.roi, patch.from_output(expected), patch.from_output(np.nan_to_num(got)), names)


def file_name(way: Way) -> str:
    """The way as part of a file's name."""
    return str(way).replace("/", "-").replace(":", "-")


def chosen(frames: Sequence[int], worst: int, wanted: tuple[int, ...]) -> list[int]:
    """Positions in ``frames`` to show: those of the ``wanted`` ones, else evenly spread ones and the worst.

    Raises:
        LipwrightError: a wanted frame is not among them.
    """
    if not wanted:
        return sorted({worst, *np.linspace(0, len(frames) - 1, SHEET_FRAMES).astype(int).tolist()})
    missing = [frame for frame in wanted if frame not in frames]
    if missing:
        told = f"{frames[0]}..{frames[-1]}"
        raise LipwrightError(f"template frame {missing[0]} is not among the compared ones, {told}: see --start")
    return [list(frames).index(frame) for frame in wanted]
