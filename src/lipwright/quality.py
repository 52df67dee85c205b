"""Measures of likeness and sync: numbers only, no opinion.

Pictures are uint8 [H, W, 3] BGR. Landmarks are those of `lipwright.face`. Series have one value for each video frame;
NaN stands for a frame without a face, is left out, and what cannot be measured is NaN itself, never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

from lipwright.contract import BORDER, CROP_SIZE, FPS, Rect, UInt8Array
from lipwright.errors import ContractError

DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: What costs nothing, by name: pictures that every figure of a network stands beside.
FREE = ("nearest pose", "mean picture")
#: What the mouth box adds on each side, as a share of the lips' width and height.
MOUTH_MARGIN = 0.2
#: Fewest frames that a correlation is worth.
MIN_FRAMES = 10
#: Share of chances by which the interval round a correlation holds the true one.
SURE = 0.9
#: Largest r that Fisher's z is taken of, that of 1 has no end; fewest free frames, of none nothing is known.
NEARLY_ONE, NEARLY_NONE = 1 - 1e-9, 1e-9
#: Frames over which a running mean is taken for the face's posture, 3 s; odd, so that a frame is in the middle.
DRIFT = 3 * FPS
#: Lip gap over face height below which lips touch. The mesh never says 0: on the synthetic presenter 95 % of the frames
#: whose lips truly touch stay below 0.0084, and half of those with 1 to 2 mm between them lie above 0.014.
CLOSED_GAP = 0.012
#: A mouth at rest: largest lip gap over face height, and largest change of it from one frame to the next.
REST_GAP = 0.02
REST_STEP = 0.005
#: Sounds made with closed lips, and what a pause is called, in the names of flite, espeak and pocketsphinx.
CLOSED_PHONES = frozenset({"p", "b", "m"})
PAUSES = frozenset({"pau", "sil", "sp", "spn", "_:", "_", "#", ""})
#: A closure may be seen this many frames before or after its phone.
CLOSURE_SLACK = 1
#: Pixels on each side of a border whose colours are compared, and along it over which texture is averaged out.
SEAM_DEPTH = 3
SEAM_SPAN = 15
#: How far inside the rect a seam is looked for, as shares of its side: from the rect to where the lips may begin.
SEAM_INSETS = tuple(k / CROP_SIZE for k in range(0, 45, BORDER))

#: Pixels over which an edge is looked for: in a region of 320 x 320 lips and teeth have theirs, and pores have not.
EDGE_SIGMA = 2.0

# Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to structural similarity".
SSIM_SIZE = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
WHITE = 255.0


@dataclass(frozen=True, slots=True)
class Phone:
    """One sound of an utterance whose timing is known."""

    name: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class GapCorrelation:
    """How well one series of lip gaps follows another."""

    r: float
    """Pearson's r as the series lie; NaN when it cannot be measured, 0 when the first does not move at all."""
    lag: int
    """Shift in frames at which r is largest; positive: the first series comes late."""
    r_at_lag: float
    """r at that shift."""
    low: float
    """Lower end of what r may be in truth, by SURE of the chances: a few frames leave much open. NaN where r is NaN or
    the first series does not move."""
    high: float
    """Upper end of it."""
    amplitude: float
    """Standard deviation of the first series over that of the second: below 1, the lips move too little."""


@dataclass(frozen=True, slots=True)
class ClosedLips:
    """Whether the lips close when p, b and m are heard, and only then."""

    recall: float
    """Share of the p, b and m during which the lips close; NaN without any."""
    precision: float
    """Share of the closed frames outside pauses that belong to a p, b or m; NaN without any."""
    phones: int
    """p, b and m that could be judged."""
    closed_frames: int
    """Closed frames outside pauses."""


@dataclass(frozen=True, slots=True)
class Rest:
    """How quiet the mouth is while nothing is said. All NaN when there is no pause with a face."""

    gap_99: float
    """99th percentile of the lip gap, as a share of the face's height."""
    step_99: float
    """99th percentile of its change from one frame to the next."""
    jitter: float
    """Root mean square of that change."""
    frames: int
    """Frames at rest that could be judged."""

    @property
    def quiet(self) -> bool:
        """Whether 99 % of the frames keep both limits; False when nothing could be judged."""
        return self.gap_99 <= REST_GAP and self.step_99 <= REST_STEP


@dataclass(frozen=True, slots=True)
class Seam:
    """How visible the border of the redrawn region is; grey levels, 0..255."""

    step: float
    """Mean step in colour across the border."""
    original: float
    """The same in the original frame: what the scene itself has there."""

    @property
    def excess(self) -> float:
        """What the redrawing added; about 0 when there is no seam."""
        return self.step - self.original


# --- pictures -------------------------------------------------------------------------------------------------------
def mouth_box(lips: npt.NDArray[np.floating], height: int, width: int) -> Rect:
    """The lips' bounding box and 20 % of its width and height on each side, inside a picture of this size.

    Take it from the true frame's lips ([n, 2], `lipwright.face.lip_points`, in the picture's pixels), and use it for
    both pictures that are compared.

    Raises:
        ContractError: The lips are NaN or lie outside the picture.
    """
    if not np.isfinite(lips).all():
        raise ContractError("no mouth box without landmarks: leave out the frames whose landmarks are NaN")
    low, high = lips.min(axis=0), lips.max(axis=0)
    margin = MOUTH_MARGIN * (high - low)
    x1, y1 = np.floor(np.maximum(low - margin, 0)).astype(int)
    x2, y2 = np.ceil(np.minimum(high + margin, (width, height))).astype(int)
    box = Rect(int(x1), int(y1), int(x2), int(y2))
    if not box.inside(height, width):
        raise ContractError(f"the mouth lies outside the {width} x {height} picture")
    return box


def psnr(picture: UInt8Array, truth: UInt8Array, box: Rect | None = None) -> float:
    """Peak signal to noise ratio in dB over all colours inside ``box`` (or everywhere); infinite for equal pictures.

    Pictures are uint8 [H, W, 3].
    """
    first, second = _pair(picture, truth, box)
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float(10 * np.log10(WHITE**2 / error)) if error else float("inf")


def ssim(picture: UInt8Array, truth: UInt8Array, box: Rect | None = None) -> float:
    """Structural similarity of the brightness (Wang 2004: Gaussian 11 x 11, sigma 1.5, whole windows only); -1..1.

    Pictures are BGR uint8 [H, W, 3].

    Raises:
        ContractError: The box is smaller than a window.
    """
    first, second = (_grey(part) for part in _pair(picture, truth, box))
    if min(first.shape) < SSIM_SIZE:
        raise ContractError(f"ssim needs at least {SSIM_SIZE} x {SSIM_SIZE} pixels, got {list(first.shape)}")
    mean1, mean2 = _window_mean(first), _window_mean(second)
    var1, var2 = _window_mean(first**2) - mean1**2, _window_mean(second**2) - mean2**2
    covariance = _window_mean(first * second) - mean1 * mean2
    c1, c2 = (SSIM_K1 * WHITE) ** 2, (SSIM_K2 * WHITE) ** 2
    likeness = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    return float(np.mean(likeness / ((mean1**2 + mean2**2 + c1) * (var1 + var2 + c2))))


def sharpness_ratio(picture: UInt8Array, truth: UInt8Array, box: Rect | None = None) -> float:
    """Fine detail in ``box`` against the truth's: 1 as sharp, below 1 blurred, above 1 noisy or over-sharpened.

    Pictures are BGR uint8 [H, W, 3]. The ratio of the root mean squares of the brightness's Laplacian; NaN when the
    truth has no detail at all.
    """
    first, second = (_detail(_grey(part)) for part in _pair(picture, truth, box))
    return first / second if second > 0 else float("nan")


def edges_in_place(picture: UInt8Array, truth: UInt8Array, box: Rect | None = None) -> float:
    """Share of the truth's edges that ``picture`` has where the truth has them: 1 all, 0 none, below 0 the opposite.

    What `sharpness_ratio` cannot tell: specks, grain and edges beside their place make a picture sharp and add nothing
    here. Pictures are BGR uint8 [H, W, 3]. The slope of the regression through 0 of the brightness's Laplacian of
    Gaussian (Marr and Hildreth 1980) on the truth's; NaN when the truth has no edges at all.
    """
    first, second = (_edges(_grey(part)) for part in _pair(picture, truth, box))
    strength = float(np.vdot(second, second))
    return float(np.vdot(first, second)) / strength if strength > 0 else float("nan")


def seam_step(picture: UInt8Array, original: UInt8Array, rect: Rect) -> Seam:
    """Step in colour across the border of ``rect`` in a redrawn frame and in the original frame.

    Frames are uint8 [H, W, 3]. Sides that lie on the picture's edge have no border; all NaN when all four do.
    """
    _pair(picture, original, None)
    return Seam(_mean_step(picture, rect), _mean_step(original, rect))


def worst_seam(picture: UInt8Array, original: UInt8Array, rect: Rect) -> Seam:
    """The most visible square around the mouth: ``seam_step`` along ``rect`` and along squares further in.

    Pasting as the family does has its border ``contract.BORDER`` pixels of the crop inside the rect, blending fades
    over a part of it, and a seam is where the eye finds one: the largest excess counts. Frames are uint8 [H, W, 3].
    """
    insets = [round(share * rect.width) for share in SEAM_INSETS]
    squares = [Rect(rect.x1 + d, rect.y1 + d, rect.x2 - d, rect.y2 - d) for d in insets]
    seams = [seam_step(picture, original, square) for square in squares if square.width > 0]
    return max(seams, key=lambda seam: seam.excess if np.isfinite(seam.excess) else -np.inf)


def _pair(picture: UInt8Array, truth: UInt8Array, box: Rect | None) -> tuple[UInt8Array, UInt8Array]:
    """Both pictures inside the box; raises ContractError when they do not go together."""
    if picture.shape != truth.shape or picture.ndim != 3 or picture.dtype != np.uint8 or truth.dtype != np.uint8:
        raise ContractError(
            f"two uint8 [H, W, 3] pictures of one size are compared, got {picture.dtype} {list(picture.shape)} "
            f"and {truth.dtype} {list(truth.shape)}"
        )
    if box is None:
        return picture, truth
    if not box.inside(*picture.shape[:2]):
        raise ContractError(f"{box} is not inside the picture, {list(picture.shape)}")
    part = np.s_[box.y1 : box.y2, box.x1 : box.x2]
    return picture[part], truth[part]


def _grey(picture: UInt8Array) -> DoubleArray:
    """Brightness 0..255, float64 [H, W], by ITU-R BT.601; not rounded."""
    return np.asarray(picture.astype(np.float64) @ np.array([0.114, 0.587, 0.299]))


def _window_mean(values: DoubleArray) -> DoubleArray:
    """Gaussian mean of every whole window."""
    margin = SSIM_SIZE // 2
    mean = cv2.GaussianBlur(values, (SSIM_SIZE, SSIM_SIZE), SSIM_SIGMA)
    return np.asarray(mean[margin:-margin, margin:-margin], np.float64)


def _detail(grey: DoubleArray) -> float:
    """Root mean square of the Laplacian."""
    return float(np.sqrt(np.mean(cv2.Laplacian(grey, cv2.CV_64F) ** 2)))


def _edges(grey: DoubleArray) -> DoubleArray:
    """Laplacian of Gaussian."""
    return np.asarray(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), EDGE_SIGMA), cv2.CV_64F))


def _mean_step(picture: UInt8Array, rect: Rect) -> float:
    """Mean over all borders, pixels along them and colours of the absolute step from outside to inside."""
    steps = [np.abs(step).ravel() for step in _border_steps(picture, rect)]
    return float(np.mean(np.concatenate(steps))) if steps else float("nan")


def _border_steps(picture: UInt8Array, rect: Rect) -> Iterable[DoubleArray]:
    """For each side of the rect that has pixels beyond it, the smoothed step along it, [pixels, 3]."""
    height, width = picture.shape[:2]
    rows, columns = slice(rect.y1, rect.y2), slice(rect.x1, rect.x2)
    upright = np.swapaxes(picture, 0, 1)
    for strip, border, along, limit in (
        (picture, rect.y1, columns, height),
        (picture, rect.y2, columns, height),
        (upright, rect.x1, rows, width),
        (upright, rect.x2, rows, width),
    ):
        if SEAM_DEPTH <= border <= limit - SEAM_DEPTH:
            before = strip[border - SEAM_DEPTH : border, along].mean(0)
            after = strip[border : border + SEAM_DEPTH, along].mean(0)
            yield cv2.blur(after - before, (1, SEAM_SPAN), borderType=cv2.BORDER_REPLICATE).reshape(-1, 3)


# --- landmarks and series -------------------------------------------------------------------------------------------
def lip_gap_correlation(
    predicted: npt.NDArray[np.floating], truth: npt.NDArray[np.floating], max_lag: int = 10
) -> GapCorrelation:
    """Pearson's r of two series of lip gaps [N], as they lie and at the best shift of at most ``max_lag`` frames.

    Raises:
        ContractError: The series differ in length.
    """
    _same_length(predicted, truth)
    rates = {lag: _r_at(predicted, truth, lag) for lag in range(-max_lag, max_lag + 1)}
    # Of equal values the smallest shift wins: a still series must not look late.
    best = max(sorted(rates, key=abs), key=lambda lag: -2.0 if np.isnan(rates[lag]) else rates[lag])
    known = np.isfinite(predicted) & np.isfinite(truth) & np.isfinite(rates[0])
    amplitude = float(np.std(predicted[known]) / np.std(truth[known])) if known.any() else float("nan")
    low, high = _interval(rates[0], predicted[known], truth[known])
    return GapCorrelation(rates[0], best, rates[best], low, high, amplitude)


def _interval(r: float, first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> tuple[float, float]:
    """What r may be in truth, by SURE of the chances.

    Fisher's z (1915), with as many independent frames as Bartlett (1935, "Some aspects of the time-correlation problem
    in regard to tests of significance") counts in two series each of whose frames is much like the one before it.
    """
    if len(first) == 0 or np.ptp(first) == 0:
        return float("nan"), float("nan")
    count = len(first)
    shrink = 1 - np.arange(1, count) / count
    alike = 1 + 2 * float(np.sum(shrink * _own_correlation(first) * _own_correlation(second)))
    free = max(count / max(alike, 1.0) - 3, NEARLY_NONE)
    reach = NormalDist().inv_cdf((1 + SURE) / 2) / np.sqrt(free)
    middle = np.arctanh(np.clip(r, -NEARLY_ONE, NEARLY_ONE))
    return float(np.tanh(middle - reach)), float(np.tanh(middle + reach))


def _own_correlation(series: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """[N - 1] correlation of a moving series [N] with itself, 1 to N - 1 frames later."""
    off = np.asarray(series, np.float64) - np.mean(series)
    whole = np.correlate(off, off, "full")[len(off) - 1 :]
    return np.asarray(whole[1:] / whole[0], np.float64)


def without_drift(gaps: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """[N] lip gaps less their running mean over DRIFT frames: how a mouth moves, not how a face holds it.

    The mean is that of the known frames at most half of DRIFT away; NaN stays NaN.
    """
    known = np.isfinite(gaps)
    series = [np.pad(one, DRIFT // 2) for one in (np.where(known, gaps, 0.0), known.astype(np.float64))]
    sums, counts = (np.convolve(one, np.ones(DRIFT), "valid") for one in series)
    return np.asarray(gaps - sums / np.maximum(counts, 1), np.float64)


def _r_at(predicted: npt.NDArray[np.floating], truth: npt.NDArray[np.floating], lag: int) -> float:
    """Pearson's r of predicted[i + lag] with truth[i] over the frames where both are known."""
    shared = max(0, len(truth) - abs(lag))
    late = np.asarray(predicted[max(lag, 0) :][:shared], np.float64)
    early = np.asarray(truth[max(-lag, 0) :][:shared], np.float64)
    known = np.isfinite(late) & np.isfinite(early)
    late, early = late[known], early[known]
    if len(early) < MIN_FRAMES or np.ptp(early) == 0:
        return float("nan")
    return float(np.corrcoef(late, early)[0, 1]) if np.ptp(late) > 0 else 0.0


def landmark_distance(
    predicted: npt.NDArray[np.floating],
    truth: npt.NDArray[np.floating],
    widths: npt.NDArray[np.floating],
) -> float:
    """LMD: mean distance of the mouth's points as a share of the face's width; NaN when no frame has both.

    Args:
        predicted: [N, K, 2] points of the lips in pixels, as `face.lip_points` gives them.
        truth: [N, K, 2] the same points of the true frames.
        widths: [N] face widths of the true frames in pixels.

    Raises:
        ContractError: The shapes differ.
    """
    if predicted.shape != truth.shape or widths.shape != truth.shape[:1]:
        raise ContractError(
            f"LMD compares [N, K, 2] with [N, K, 2] and N widths, "
            f"got {list(predicted.shape)}, {list(truth.shape)}, {list(widths.shape)}"
        )
    distance = np.linalg.norm(predicted.astype(np.float64) - truth, axis=2).mean(1) / widths
    return _mean(distance)


def closed_lips(gaps: npt.NDArray[np.floating], phones: Sequence[Phone], closed: float = CLOSED_GAP) -> ClosedLips:
    """Whether lips are closed, gap below ``closed``, during p, b and m and open otherwise.

    Args:
        gaps: [N] lip gaps over face height.
        phones: All sounds of the film, pauses included, by time.
        closed: Largest gap of closed lips.
    """
    shut, known = np.less(gaps, closed), np.isfinite(gaps)
    wanted = [_span(phone, len(gaps), CLOSURE_SLACK) for phone in phones if phone.name.lower() in CLOSED_PHONES]
    wanted = [span for span in wanted if known[span].any()]
    allowed, paused = np.zeros(len(gaps), bool), _in_pause(phones, len(gaps), CLOSURE_SLACK)
    for span in wanted:
        allowed[span] = True
    spoken = shut & (allowed | ~paused)
    return ClosedLips(
        recall=_mean(np.array([shut[span].any() for span in wanted], np.float64)),
        precision=_mean(allowed[spoken].astype(np.float64)),
        phones=len(wanted),
        closed_frames=int(spoken.sum()),
    )


def closed_in_all(films: Sequence[npt.NDArray[np.floating]], phones: Sequence[Phone]) -> ClosedLips:
    """`closed_lips` of several films of the same words: means of what each is known for.

    Args:
        films: [N] lip gaps over face height of each.
        phones: All sounds of the words, pauses included, by time.
    """
    each = [closed_lips(gaps, phones) for gaps in films]
    return ClosedLips(
        recall=_mean(np.array([lips.recall for lips in each])),
        precision=_mean(np.array([lips.precision for lips in each])),
        phones=sum(lips.phones for lips in each),
        closed_frames=sum(lips.closed_frames for lips in each),
    )


def closures_kept(
    gaps: npt.NDArray[np.floating], truth: npt.NDArray[np.floating], closed: float = CLOSED_GAP
) -> ClosedLips:
    """`closed_lips` for a film whose phones nobody knows: lips should close when the true ones [N] did, and only then.

    Each stretch of frames in which the true gap is below ``closed`` takes the place of a p, b or m; pauses are not left
    out, since the truth shows what lips do in them.

    Raises:
        ContractError: The series differ in length.
    """
    _same_length(gaps, truth)
    known = np.isfinite(gaps) & np.isfinite(truth)
    edges = np.diff(np.concatenate([[0], (truth < closed) & known, [0]]).astype(np.int8))
    spans = [
        slice(max(first - CLOSURE_SLACK, 0), stop + CLOSURE_SLACK)
        for first, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    ]
    allowed, shut = np.zeros(len(gaps), bool), np.less(gaps, closed) & known
    for span in spans:
        allowed[span] = True
    return ClosedLips(
        recall=_mean(np.array([shut[span].any() for span in spans], np.float64)),
        precision=_mean(allowed[shut].astype(np.float64)),
        phones=len(spans),
        closed_frames=int(shut.sum()),
    )


def rest(gaps: npt.NDArray[np.floating], silent: BoolArray) -> Rest:
    """How quiet the mouth is in the frames marked ``silent`` [N], from lip gaps over face height [N].

    Raises:
        ContractError: The series differ in length.
    """
    _same_length(gaps, silent)
    still = silent & np.isfinite(gaps)
    steps = np.abs(np.diff(gaps))[still[1:] & still[:-1]]
    if not len(steps):
        return Rest(float("nan"), float("nan"), float("nan"), int(still.sum()))
    return Rest(
        gap_99=float(np.percentile(gaps[still], 99)),
        step_99=float(np.percentile(steps, 99)),
        jitter=float(np.sqrt(np.mean(steps**2))),
        frames=int(still.sum()),
    )


def silent_frames(phones: Sequence[Phone], frames: int) -> BoolArray:
    """[frames] True where a frame lies wholly in a pause, or after the last sound."""
    return _in_pause(phones, frames, 0)


def _in_pause(phones: Sequence[Phone], frames: int, slack: int) -> BoolArray:
    """True for every frame that no sound touches once ``slack`` frames are cut off each of its ends."""
    silent = np.ones(frames, bool)
    for phone in phones:
        if phone.name.lower() not in PAUSES:
            silent[_span(phone, frames, -slack)] = False
    return silent


def _span(phone: Phone, frames: int, slack: int) -> slice:
    """The frames that a phone touches and ``slack`` more on either side."""
    first, end = int(np.floor(phone.start * FPS)) - slack, int(np.ceil(phone.end * FPS)) + slack
    return slice(min(max(first, 0), frames), min(max(end, 0), frames))


def _same_length(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> None:
    if first.shape != second.shape or first.ndim != 1:
        raise ContractError(f"two series of one length are compared, got {list(first.shape)} and {list(second.shape)}")


def _mean(values: DoubleArray) -> float:
    """Mean of what is known; NaN when nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


# --- baselines ------------------------------------------------------------------------------------------------------
def mean_picture(pictures: Iterable[UInt8Array]) -> UInt8Array:
    """The mean uint8 [H, W, 3] of equally large pictures [H, W, 3], rounded; they are read one by one.

    Raises:
        ContractError: There is none, or they differ in size.
    """
    total, count = None, 0
    for picture in pictures:
        if total is not None and total.shape != picture.shape:
            raise ContractError(f"no mean of pictures of {list(total.shape)} and {list(picture.shape)}")
        total = picture.astype(np.float64) if total is None else total + picture
        count += 1
    if total is None:
        raise ContractError("no mean of no pictures")
    return np.asarray(np.rint(total / count), np.uint8)
