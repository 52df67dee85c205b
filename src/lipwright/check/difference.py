"""How far two sets of pictures are apart: collected frame by frame, so that thousands fit into little memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, log10, nan

import numpy as np
import numpy.typing as npt

from lipwright.check.findings import Finding
from lipwright.check.limits import LEVEL, PIXEL_OFF, Limits
from lipwright.contract import FloatArray

_BINS = 1 << 16
_PER_MILLE = 0.999


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of one side, 0..1."""

    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One set of pictures against another; values are those of the network's output, 0..1."""

    frames: int
    expected: Spread
    got: Spread
    not_numbers: int
    """NaN and infinite values on the second side; left out of the means, and ``max_abs`` is infinite."""
    mean_abs: float
    max_abs: float
    p999_abs: float
    """99.9th percentile of the absolute differences, exact to 1/65536."""
    psnr: float
    """dB for a peak of 1; infinite where nothing differs."""
    pixels_off: float
    """Share of pixels that are off by more than 2/255 in any colour."""
    worst: int
    """Number of the frame (counted from 0) with the largest mean difference."""
    lip_gap_r: float = nan
    """Correlation of the lip gaps; NaN: not measured."""

    def findings(self, section: str, what: str, limits: Limits) -> Iterable[Finding]:
        """Each limit of ``limits`` as a line of the report."""
        for name, seen, limit in (
            ("largest difference", self.max_abs, limits.max_abs),
            ("mean difference", self.mean_abs, limits.mean_abs),
            ("99.9th percentile", self.p999_abs, limits.p999_abs),
        ):
            if limit is not None:
                told, allowed = (_told(value, limit) for value in (seen, limit))
                yield Finding.limited(section, f"{what}: {name}", told, f"<= {allowed}", seen <= limit)
        if self.not_numbers:
            yield Finding.limited(section, f"{what}: NaN or infinite values", str(self.not_numbers), "0", False)
        if limits.lip_gap_r is not None:
            yield _lips(section, what, self.lip_gap_r, limits.lip_gap_r)


def _lips(section: str, what: str, r: float, limit: float) -> Finding:
    name, allowed = f"{what}: lip gaps, r", f">= {limit:g}"
    if r != r:
        return Finding.unmeasured(section, name, "no face or no movement of lips was found", allowed)
    return Finding.limited(section, name, f"{r:.4f}", allowed, r >= limit)


def _told(value: float, limit: float) -> str:
    """In levels of 8 bits where the limit is one that can be seen."""
    return f"{value:.2g}" if limit < LEVEL / 10 else f"{value / LEVEL:.3g}/255"


@dataclass
class _Side:
    """Running sums of one side's values."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = inf
    high: float = -inf

    def add(self, values: npt.NDArray[np.float64]) -> None:
        if values.size:
            self.count += values.size
            self.total += float(values.sum())
            self.squares += float(np.square(values).sum())
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def spread(self) -> Spread:
        if not self.count:
            return Spread(nan, nan, nan, nan)
        mean = self.total / self.count
        return Spread(mean, max(self.squares / self.count - mean**2, 0.0) ** 0.5, self.low, self.high)


@dataclass
class Meter:
    """Collects a ``Difference``."""

    _expected: _Side = field(default_factory=_Side)
    _got: _Side = field(default_factory=_Side)
    _bins: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    _means: list[float] = field(default_factory=list)
    _squares: float = 0.0
    _max: float = 0.0
    _pixels: int = 0
    _pixels_off: int = 0
    _not_numbers: int = 0

    def add(self, expected: FloatArray, got: FloatArray) -> None:
        """One frame of each side, [3, H, W] 0..1, of equal shapes."""
        finite = np.isfinite(got)
        first, second = expected.astype(np.float64), got.astype(np.float64)
        apart = np.where(finite, np.abs(np.where(finite, second, 0) - first), inf)
        self._expected.add(first)
        self._got.add(second[finite])
        known = apart[finite]
        self._not_numbers += int(finite.size - known.size)
        self._bins += np.bincount(np.minimum(known * _BINS, _BINS - 1).astype(np.int64), minlength=_BINS)
        self._squares += float(np.square(known).sum())
        self._max = max(self._max, float(apart.max()))
        self._means.append(float(known.sum()) / known.size if known.size == apart.size else inf)
        off = (apart > PIXEL_OFF).any(axis=0)
        self._pixels += off.size
        self._pixels_off += int(off.sum())

    def result(self, lip_gap_r: float = nan) -> Difference:
        """What was collected; at least one frame must have been."""
        error = self._squares / max(self._got.count, 1)
        known = [mean for mean in self._means if mean != inf]
        return Difference(
            frames=len(self._means),
            expected=self._expected.spread(),
            got=self._got.spread(),
            not_numbers=self._not_numbers,
            mean_abs=float(np.mean(known)) if len(known) == len(self._means) else inf,
            max_abs=self._max,
            p999_abs=self._percentile(),
            psnr=-10 * log10(error) if error else inf,
            pixels_off=self._pixels_off / self._pixels,
            worst=int(np.argmax(self._means)),
            lip_gap_r=lip_gap_r,
        )

    def _percentile(self) -> float:
        """The upper edge of the bin that holds it; 0 where nothing differs."""
        total = np.cumsum(self._bins)
        if self._not_numbers > (1 - _PER_MILLE) * (total[-1] + self._not_numbers):
            return inf
        place = int(np.searchsorted(total, _PER_MILLE * total[-1]))
        return 0.0 if place == 0 and self._max == 0 else (place + 1) / _BINS
