"""The held-out time: what is asked there, what came of it, and what would have come of doing nothing.

The reference is never the frame that is scored: it is the training frame nearest in pose, moved onto the pose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lipwright import patch
from lipwright.contract import ROI_SIZE, FloatArray, UInt8Array
from lipwright.models.generator import Generator
from lipwright.quality import (
    edges_in_place,
    lip_gap_correlation,
    mean_picture,
    mouth_box,
    psnr,
    sharpness_ratio,
    ssim,
)
from lipwright.runtimes.torch import has_bf16, load_generator
from lipwright.training.data import Frames, References, full_windows, shrink, to_tensor
from lipwright.training.pack import Pack
from lipwright.training.sync import mouths

#: Pictures drawn at a time.
_BATCH = 8
#: Strengths of the lip reader's ridge that are tried, as shares of the pictures' mean variance times their number.
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
_FOLDS = 5
#: How many decibels a mouth with all edges in place is worth over one without any, and lips that follow the sound over
#: lips that do not. Not more: on two seconds the correlation is a quarter off by chance.
_EDGES, _FOLLOWS = 8.0, 2.0
#: Side of the grey mouth pictures it reads.
_READ_SIZE = 24
#: Fewest frames that tell how good finished weights are where those that chose them are left out: four seconds.
_FEWEST_UNCHOSEN = 100


@dataclass(frozen=True, slots=True)
class Score:
    """How near some pictures come to the true ones; means over the frames, mouth box only."""

    psnr: float
    """dB."""
    ssim: float
    sharpness: float
    """1: as much fine detail as the truth, wherever it is."""
    edges: float
    """1: all edges of the truth, in their place."""
    lip_gap_r: float
    """Correlation of the opening of the lips, read from the pictures, with the true one; NaN: not measurable."""

    @property
    def total(self) -> float:
        """What the best weights are chosen by, dB: likeness, and what a blurred mouth that stands still loses.

        Not sharpness: the first steps at full size draw specks, which would win.
        """
        follows = 0.0 if np.isnan(self.lip_gap_r) else self.lip_gap_r
        return self.psnr + _EDGES * self.edges + _FOLLOWS * follows

    def figures(self) -> dict[str, float | None]:
        """For a JSON file: NaN, and the endless PSNR of the truth itself, become None."""
        return {name: round(value, 4) if np.isfinite(value) else None for name, value in asdict(self).items()}


class LipReader:
    """Reads how far lips are open from a picture of the mouth: ridge regression on this person's own frames.

    A measure for machines that have no face mesh; `score`s of the true frames tell how good it is.
    """

    def __init__(self, pack: Pack) -> None:
        frames = pack.training_frames()
        pictures = _readable(pack.rois[k] for k in frames)
        truth = pack.mouth[frames, 0].astype(np.float64)
        self._mean, self._level = pictures.mean(axis=0), truth.mean()
        centred, gaps = pictures - self._mean, truth - self._level
        scale = float(np.square(centred).mean()) * len(frames)
        ridges = [ridge * scale for ridge in _RIDGES]
        best = min(ridges, key=lambda ridge: _left_out_error(centred, gaps, ridge))
        self._weights = ridge(centred, gaps, best)

    def read(self, rois: UInt8Array) -> npt.NDArray[np.float64]:
        """[N, 320, 320, 3] to [N]: the first channel of the mouth code."""
        return np.asarray((_readable(rois) - self._mean) @ self._weights + self._level)


def _readable(rois: Iterable[UInt8Array]) -> npt.NDArray[np.float64]:
    """[N, 576] grey mouth pictures."""
    grey = mouths(rois).mean(axis=3) / 255
    part = grey.shape[1] // _READ_SIZE
    return np.asarray(
        grey.reshape(len(grey), _READ_SIZE, part, _READ_SIZE, part).mean(axis=(2, 4)).reshape(len(grey), -1)
    )


def ridge(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], strength: float) -> npt.NDArray[np.float64]:
    """[k, m] weights of the ridge regression of ``y`` [n, m] or [n] on ``x`` [n, k], both about their means."""
    return np.asarray(np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y))


def _left_out_error(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], strength: float) -> float:
    """Mean square error on stretches of time that were not fitted."""
    error = 0.0
    for part in np.array_split(np.arange(len(y)), _FOLDS):
        rest = np.setdiff1d(np.arange(len(y)), part)
        error += float(np.square(x[part] @ ridge(x[rest], y[rest], strength) - y[part]).sum())
    return error / len(y)


class HeldOut:
    """Questions with known answers from the held-out time of a pack."""

    def __init__(self, pack: Pack, frames: Frames | None = None) -> None:
        """``frames`` [n] are those that are asked; None: all that are held out."""
        self.pack = pack
        self.frames: Frames = pack.held_frames() if frames is None else frames
        """[n]"""
        references = References(pack, pack.training_frames())
        self.references = [int(references.candidates(int(k))[0]) for k in self.frames]
        self.truth: UInt8Array = pack.rois[self.frames]
        self.nearest = np.empty_like(self.truth)
        """[n, 320, 320, 3] the references, moved onto the pose."""
        for row, (k, reference) in enumerate(zip(self.frames, self.references, strict=True)):
            self.nearest[row] = references.picture(int(k), reference)
        self.boxes = [mouth_box(pack.landmarks[k, pack.lips], ROI_SIZE, ROI_SIZE) for k in self.frames]
        self._reader = LipReader(pack)

    def images(self, rows: slice, size: int = ROI_SIZE) -> Tensor:
        """[m, 6, size, size] the generator's input for some of the frames."""
        pairs = [
            shrink(np.concatenate([seen, patch.masked(true)], axis=2), size)
            for seen, true in zip(self.nearest[rows], self.truth[rows], strict=True)
        ]
        return to_tensor(np.stack(pairs))

    def windows(self, version: int = 0) -> FloatArray:
        """[n, 32, 16, 16] of one version of the sound, all of the future known."""
        return full_windows(self.pack.features[version], self.frames)

    def score(self, pictures: UInt8Array) -> Score:
        """Compare [n, 320, 320, 3] with the truth."""
        both = list(zip(pictures, self.truth, self.boxes, strict=True))
        gaps = self._reader.read(pictures)
        return Score(
            psnr=float(np.mean([psnr(a, b, box) for a, b, box in both])),
            ssim=float(np.mean([ssim(a, b, box) for a, b, box in both])),
            sharpness=float(np.mean([sharpness_ratio(a, b, box) for a, b, box in both])),
            edges=float(np.mean([edges_in_place(a, b, box) for a, b, box in both])),
            lip_gap_r=lip_gap_correlation(gaps, self.pack.mouth[self.frames, 0].astype(np.float64)).r,
        )

    def baselines(self) -> dict[str, Score]:
        """What costs nothing (the nearest pose pasted in, the mean picture), and what the reader makes of the truth."""
        mean = mean_picture(self.pack.rois[k] for k in self.pack.training_frames())
        return {
            "nearest pose": self.score(self.nearest),
            "mean picture": self.score(np.broadcast_to(mean, self.truth.shape)),
            "truth": self.score(self.truth),
        }


def unchosen(pack: Pack, checked: int) -> Frames:
    """[n] held-out frames by which no weights are chosen where the first ``checked`` are: those a gap behind them.

    All of them where few would be left: then the finished figures are the kinder side of honest.
    """
    frames = pack.held_frames()
    later = frames[frames >= frames[:checked][-1] + 1 + pack.gap]
    return later if len(later) >= _FEWEST_UNCHOSEN else frames


def draw_by(weights: Path, held: HeldOut) -> UInt8Array:
    """[n, 320, 320, 3]: what the generator with these weights (``.pth``) makes of the held-out questions.

    Raises:
        AvatarError: the file is missing or damaged.
        ContractError: it holds something else.
    """
    return draw(load_generator(weights).eval(), held, torch.device("cpu"))


@torch.inference_mode()
def draw(
    generator: Generator,
    held: HeldOut,
    device: torch.device,
    version: int = 0,
    size: int = ROI_SIZE,
    bf16: bool | None = None,
) -> UInt8Array:
    """[n, 320, 320, 3]: what a generator in eval mode makes of the held-out questions.

    At another ``size`` the question is shrunk and the answer enlarged: a generator knows pictures as large as those it
    learnt from. ``bf16`` as in `loop.Trainer`: layers multiply in it; None: where the device does that natively.
    """
    enabled = has_bf16(device.type) if bf16 is None else bf16
    heard = held.windows(version)
    pictures = np.empty_like(held.truth)
    for first in range(0, len(heard), _BATCH):
        rows = slice(first, first + _BATCH)
        image = held.images(rows, size).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            output = generator(image, torch.from_numpy(heard[rows]).to(device))
        pictures[rows] = patch.from_outputs(_enlarged(output.float()).contiguous().cpu().numpy())
    return pictures


def _enlarged(pictures: Tensor) -> Tensor:
    """[m, 3, S, S] to [m, 3, 320, 320]."""
    if pictures.shape[-1] == ROI_SIZE:
        return pictures
    return functional.interpolate(pictures, size=ROI_SIZE, mode="bicubic", align_corners=False)
