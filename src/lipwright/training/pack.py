"""One file that holds everything a training needs: pictures, landmarks, mouth codes and features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from lipwright.contract import FPS, FloatArray, UInt8Array
from lipwright.durable import take_name
from lipwright.errors import LipwrightError
from lipwright.training.pictures import KeptPictures

#: Before the names of the base's weights in the file.
_BASE = "base/"
#: What comes of a file that is no ``.npz`` or lacks what is asked of it: cut short, empty, a ``.npy`` (TypeError).
UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile)


@dataclass(frozen=True)
class Pack:
    """A person's film, ready for training. N frames, P landmarks, K mouth channels, V versions of the sound."""

    rois: UInt8Array | KeptPictures
    """[N, 320, 320, 3] BGR; JPEG in memory where they come from a film or a file."""
    landmarks: FloatArray
    """[N, P, 2] x, y in ROI pixels."""
    still: npt.NDArray[np.int64]
    """Indices of landmarks that speech does not move (eyes, bridge of the nose, temples): they tell the pose."""
    lips: npt.NDArray[np.int64]
    """Indices of the lips' landmarks: their box is the mouth."""
    mouth: FloatArray
    """[N, K] mouth code: what the mouth does in each frame, in any units."""
    features: npt.NDArray[np.float16]
    """[V, N, 512] audio features; version 0 is the sound as it was recorded, the others are changed voices."""
    held_out: tuple[int, int]
    """Frames first..last (exclusive) that no training may see."""
    gap: int = 25
    """Frames left out on both sides of the held-out ones."""
    unusable: tuple[int, ...] = ()
    """Frames without a face: never drawn, never a reference."""
    cuts: tuple[int, ...] = ()
    """Frames that do not follow the one before them: the film is cut there."""
    base: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Weights to start from, by their names: all of a generator, or an ear alone (`training.base`). Empty: from
    nothing."""
    base_name: str = ""
    """Whose weights those are; empty where nobody said."""
    film: str = ""
    """Which film and sound it was made of (`training.collect.film_of`); empty where nobody said."""

    @property
    def trained_versions(self) -> int:
        """Versions of the sound that training hears; of three or more the last is kept for validation."""
        return len(self.features) - (len(self.features) >= 3)

    def held_frames(self) -> npt.NDArray[np.int64]:
        """Indices of the held-out frames that show a face."""
        return np.setdiff1d(np.arange(*self.held_out), self.unusable)

    def clips(self, frames: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """Those of ``frames`` that begin ``length`` frames in a row, all of them in ``frames``, without a cut."""
        inside = np.zeros(len(self.rois) + length, bool)
        inside[frames] = True
        follows = np.ones(len(inside), bool)
        follows[list(self.cuts)] = False
        whole = np.ones(len(self.rois), bool)
        for step in range(length):
            whole &= inside[step : step + len(whole)]
            if step:
                whole &= follows[step : step + len(whole)]
        return np.flatnonzero(whole)

    def training_frames(self) -> npt.NDArray[np.int64]:
        """Indices of the frames that may be trained on."""
        first, last = self.held_out
        frames = np.setdiff1d(np.arange(len(self.rois)), self.unusable)
        return frames[(frames < first - self.gap) | (frames >= last + self.gap)]

    def with_held_out(self, seconds: float) -> Pack:
        """The same pack with the last ``seconds`` put aside.

        Raises:
            LipwrightError: that is nothing, or the whole film.
        """
        count = round(seconds * FPS)
        if not 0 < count < len(self.mouth):
            raise LipwrightError(
                f"of {len(self.mouth) / FPS:.1f} s, {seconds:g} s cannot be put aside: a tenth is usual"
            )
        return replace(self, held_out=(len(self.mouth) - count, len(self.mouth)))

    def save(self, path: Path) -> None:
        """Write one .npz; the file appears under its name only when it is whole."""
        jpegs = (self.rois if isinstance(self.rois, KeptPictures) else KeptPictures.of(self.rois)).jpegs
        part = path.with_suffix(".part.npz")
        arrays: dict[str, Any] = {
            "jpeg": np.concatenate(jpegs),
            "jpeg_size": np.array([len(j) for j in jpegs]),
            "landmarks": self.landmarks,
            "still": self.still,
            "lips": self.lips,
            "mouth": self.mouth,
            "features": self.features,
            "held_out": np.array(self.held_out),
            "gap": np.array(self.gap),
            "unusable": np.array(self.unusable, np.int64),
            "cuts": np.array(self.cuts, np.int64),
        }
        arrays |= {"base_name": np.array(self.base_name), "film": np.array(self.film)}
        arrays |= {_BASE + name: value for name, value in self.base.items()}
        np.savez(part, **arrays)
        take_name(part, path)

    @classmethod
    def load(cls, path: Path) -> Pack:
        """Read a pack.

        Raises:
            LipwrightError: the file is not a pack.
        """
        try:
            with np.load(path) as data:
                if len(data["jpeg_size"]) != len(data["mouth"]):
                    raise ValueError(f"{len(data['jpeg_size'])} pictures for {len(data['mouth'])} mouths")
                first, last = (int(v) for v in data["held_out"])
                return cls(
                    rois=KeptPictures(np.split(data["jpeg"], np.cumsum(data["jpeg_size"])[:-1])),
                    landmarks=data["landmarks"],
                    still=data["still"],
                    lips=data["lips"],
                    mouth=data["mouth"],
                    features=data["features"],
                    held_out=(first, last),
                    gap=int(data["gap"]),
                    unusable=_frames(data, "unusable"),
                    cuts=_frames(data, "cuts"),
                    base={name.removeprefix(_BASE): data[name] for name in data if name.startswith(_BASE)},
                    base_name=str(data["base_name"]) if "base_name" in data else "",
                    film=str(data["film"]) if "film" in data else "",
                )
        except UNREADABLE as error:
            raise LipwrightError(
                f"{path} is not a training pack ({error}): `lipwright train AVATAR --pack {path.name}` makes one"
            ) from error


def _frames(data: Mapping[str, npt.NDArray[Any]], name: str) -> tuple[int, ...]:
    """A list of frames; packs of an older version have none."""
    return tuple(int(k) for k in data[name]) if name in data else ()
