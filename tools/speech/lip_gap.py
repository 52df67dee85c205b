"""How well the lips of a real film can be told from its sound: a linear read-out, and what it says by chance.

The read-out of every frame is fitted on other parts of the same film. ``docs/voice.md`` explains every figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipwright.contract import FPS, FloatArray, UInt8Array
from lipwright.face import FaceFinder, FaceTracker, lip_gap
from lipwright.prepare.film import Seen
from lipwright.prepare.judge import find_cuts
from lipwright.prepare.looks import thumbnail
from lipwright.quality import without_drift
from tools.speech.bootstrap import DoubleArray, drawn, in_blocks, interval

IntArray = npt.NDArray[np.int64]
Figure = dict[str, float]

#: The read-out of frame i sees frames i - CONTEXT .. i + CONTEXT.
CONTEXT = 2
#: Principal components of each frame, for every kind of input alike.
COMPONENTS = 24
FOLDS = 5
INNER_FOLDS = 4
#: Frames between training and test, also where the penalty is chosen.
GAP = FPS
#: Penalties tried inside the training folds, times the number of training frames.
PENALTIES = 10.0 ** np.arange(-2, 4)
#: Frames that unrelated lips are shifted by at least, either way round.
LEAST_SHIFT = 2 * FPS
#: Shifts that are tried, spread evenly.
SHIFTS = 40


@dataclass(frozen=True)
class Lips:
    """What a film shows of the mouth."""

    gap: DoubleArray
    """[n] opening of the inner lips over the face's height; NaN where no face is found."""
    cuts: tuple[int, ...]
    """Frames at which a new scene begins or a part was cut out."""

    def first(self, frames: int) -> Lips:
        """The same of the first ``frames`` pictures."""
        return Lips(self.gap[:frames], tuple(cut for cut in self.cuts if cut < frames))

    def without_drift(self) -> DoubleArray:
        """[n] the gap without its drift (`quality.without_drift`), which never reaches across a cut."""
        return np.concatenate([without_drift(scene) for scene in np.split(self.gap, self.cuts)])


def watched(pictures: Iterable[UInt8Array]) -> Lips:
    """The lips of the largest face in a film's pictures [H, W, 3] BGR."""
    tracker = FaceTracker(FaceFinder())
    faces, thumbs = [], []
    for picture in pictures:
        faces.append(tracker.follow(picture))
        thumbs.append(thumbnail(picture))
    gaps = [np.nan if face is None else float(lip_gap(face.landmarks)) for face in faces]
    found = [k for k, face in enumerate(faces) if face is not None]
    landmarks = np.array([face.landmarks for face in faces if face is not None], np.float32).reshape(-1, 468, 3)
    nothing = np.zeros((len(found), 4), np.float32)
    seen = Seen(np.array(thumbs), np.array(found, np.int32), np.zeros(len(found), np.int32), landmarks, nothing)
    return Lips(np.array(gaps), tuple(find_cuts(seen, len(thumbs))))


# --- the read-out -----------------------------------------------------------------------------------------------------
def folds(frames: IntArray, parts: int = FOLDS) -> Iterator[tuple[IntArray, IntArray]]:
    """Training and test frames of ``parts`` contiguous parts of ``frames`` [n] (rising), GAP frames apart."""
    for test in np.array_split(frames, parts):
        yield frames[(frames < test[0] - GAP) | (frames > test[-1] + GAP)], test


def reduced(inputs: FloatArray, train: IntArray) -> DoubleArray:
    """[n, (2 CONTEXT + 1) COMPONENTS]: principal components of standardised inputs [n, d], neighbours side by side.

    Mean, spread and components are those of the training frames; beyond the ends the last frame is repeated.
    """
    known = inputs[train].astype(np.float64)
    mean, spread = known.mean(0), known.std(0) + 1e-3 * known.std()
    axes = np.linalg.svd((known - mean) / spread, full_matrices=False)[2][:COMPONENTS]
    scores = (inputs - mean) / spread @ axes.T
    around = np.arange(len(inputs))[:, None] + np.arange(-CONTEXT, CONTEXT + 1)
    return np.asarray(scores[np.clip(around, 0, len(inputs) - 1)].reshape(len(inputs), -1))


def ridge(x: DoubleArray, y: DoubleArray, penalty: float) -> Callable[[DoubleArray], DoubleArray]:
    """Linear read-out of [n, d] to [n] or [n, S] with ``penalty * n`` on the squared weights; the mean is free."""
    middle, level = x.mean(0), y.mean(0)
    centred = x - middle
    weights = np.linalg.solve(centred.T @ centred + penalty * len(x) * np.eye(x.shape[1]), centred.T @ (y - level))
    return lambda new: (new - middle) @ weights + level


def best_penalties(x: DoubleArray, y: DoubleArray, train: IntArray) -> DoubleArray:
    """[S] of PENALTIES those with the least squared error over contiguous parts of the frames ``train``.

    ``x`` [n, d] are inputs, ``y`` [n, S] what is read from them. What a part is predicted from lies GAP frames away, as
    in the test it is chosen for. A part that leaves nothing to be predicted from, which happens in films of a few
    seconds, does not count.
    """
    parts = [(rest, part) for rest, part in folds(train, INNER_FOLDS) if len(rest)]

    def error(penalty: float) -> DoubleArray:
        missed = [ridge(x[rest], y[rest], penalty)(x[part]) - y[part] for rest, part in parts]
        return np.asarray(np.square(np.concatenate(missed)).sum(0))

    return np.asarray(PENALTIES[np.argmin([error(penalty) for penalty in PENALTIES], axis=0)])


class ReadOut:
    """Tells the lip gap of every frame from inputs [n, d], by ridge regressions that saw only frames a second away."""

    def __init__(self, inputs: FloatArray) -> None:
        every = np.arange(len(inputs))
        self._folds = [(train, test, reduced(inputs, train)) for train, test in folds(every)]

    def __call__(self, gaps: DoubleArray) -> DoubleArray:
        """[n, S] what is said of each of S series ``gaps`` [n, S], whose NaN are not learnt from."""
        said = np.full(gaps.shape, np.nan)
        known = np.isfinite(gaps)
        for there in np.unique(known, axis=1).T:
            alike = np.flatnonzero((known == there[:, None]).all(0))
            for train, test, x in self._folds:
                said[np.ix_(test, alike)] = _predicted(x, gaps[:, alike], train[there[train]], test)
        return said


def _predicted(x: DoubleArray, y: DoubleArray, train: IntArray, test: IntArray) -> DoubleArray:
    """[test, S] of ``y`` [n, S], each column with its own penalty."""
    penalties = best_penalties(x, y, train)
    said = np.empty((len(test), y.shape[1]))
    for penalty in np.unique(penalties):
        chosen = penalties == penalty
        said[:, chosen] = ridge(x[train], y[train][:, chosen], penalty)(x[test])
    return said


# --- figures ----------------------------------------------------------------------------------------------------------
def correlations(said: DoubleArray, gap: DoubleArray) -> DoubleArray:
    """[1 + DRAWS] Pearson's r of all known frames, then of every bootstrap sample of blocks of a second."""
    known = np.isfinite(gap)
    moments = np.stack([known, said, gap, said * said, gap * gap, said * gap], axis=1)
    blocks = in_blocks(np.where(known[:, None], moments, 0.0))
    n, x, y, xx, yy, xy = np.concatenate([blocks.sum(0)[None], drawn(len(blocks)) @ blocks]).T
    return np.asarray((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))


def within_parts(values: DoubleArray) -> DoubleArray:
    """The same series without the mean of each of the FOLDS parts."""
    return np.concatenate([part - np.nanmean(part) for part in np.array_split(values, FOLDS)])


def columns(
    said: Mapping[str, tuple[DoubleArray, DoubleArray]], gap: DoubleArray, moving: DoubleArray, own: DoubleArray | None
) -> dict[str, DoubleArray]:
    """[1 + DRAWS] of `correlations` for every read-out, and for the difference of the first two.

    Args:
        said: what was said of ``gap`` and of ``moving``, [n] each, by the name of what was heard.
        gap: [n] as it was seen.
        moving: [n] without its drift.
        own: [n] what is predicted without any fit.
    """
    found: dict[str, DoubleArray] = {}
    for name, (whole, moved) in said.items():
        found[name] = correlations(whole, gap)
        found[f"{name}, within parts"] = correlations(within_parts(whole), within_parts(gap))
        found[f"{name}, drift removed"] = correlations(moved, moving)
    first, second = list(said)[:2]
    for what in ("", ", within parts", ", drift removed"):
        found[f"difference{what}"] = found[first + what] - found[second + what]
    if own is not None:
        found["own head, not fitted"] = correlations(own, gap)
        found["own head, drift removed"] = correlations(own, moving)
    return found


def unrelated(frames: int) -> list[int]:
    """Up to SHIFTS circular shifts of a film of ``frames``, LEAST_SHIFT or more either way round."""
    return sorted({round(k) for k in np.linspace(LEAST_SHIFT, frames - LEAST_SHIFT, SHIFTS).tolist()})


def figures(inputs: Mapping[str, FloatArray], lips: Lips, own: DoubleArray | None = None) -> dict[str, Figure]:
    """Every column's r with its confidence interval, and mean and spread of r where lips and sound are unrelated.

    Args:
        inputs: two kinds of what is heard, [n, d] each, by name; their difference is a column too.
        lips: what n pictures show.
        own: [n] the encoder's own lip gap, if it has one.

    The null, ``null`` and ``null_spread``: the same read-outs, fitted and tested on the same lips shifted in a circle.
    Such r are not 0: where the mean of a part that is left out is high, that of what the read-out saw is low.
    """
    shifts = [0, *unrelated(len(lips.gap))]
    gaps, moving = (np.stack([np.roll(x, k) for k in shifts], 1) for x in (lips.gap, lips.without_drift()))
    readers = {name: ReadOut(heard) for name, heard in inputs.items()}
    said = {name: (reader(gaps), reader(moving)) for name, reader in readers.items()}

    def at(k: int) -> dict[str, DoubleArray]:
        return columns({name: (a[:, k], b[:, k]) for name, (a, b) in said.items()}, gaps[:, k], moving[:, k], own)

    chance = [at(k) for k in range(1, len(shifts))]
    return {name: _figure(r, np.array([one[name][0] for one in chance])) for name, r in at(0).items()}


def _figure(r: DoubleArray, null: DoubleArray) -> Figure:
    low, high = interval(r[1:])
    named = {"r": r[0], "low": low, "high": high, "null": null.mean(), "null_spread": null.std()}
    return {name: float(value) for name, value in named.items()}


def table(films: Mapping[str, Mapping[str, Figure]]) -> str:
    """The figures of all films as Markdown, a row for each column of `columns`."""
    names = ["read-out", *(cell for film in films for cell in (film, "unrelated"))]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for name in next(iter(films.values())):
        row = [name]
        for film in films.values():
            f = film[name]
            row += [f"{f['r']:.2f} ({f['low']:.2f}-{f['high']:.2f})", f"{f['null']:.2f} ± {f['null_spread']:.2f}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
