"""A film's ROIs as a training keeps them: JPEG in memory, one of them decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from lipwright.contract import UInt8Array
from lipwright.errors import LipwrightError

#: JPEG quality: 48 dB on the presenter, a sixth of the size or less.
_QUALITY = 97
_OPTIONS = [
    cv2.IMWRITE_JPEG_QUALITY,
    _QUALITY,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


class KeptPictures:
    """Pictures [N, H, W, 3] BGR, uint8. Five minutes of film take 0.4 GB, and not 2.3; a sample costs two decodings."""

    def __init__(self, jpegs: Sequence[UInt8Array]) -> None:
        """``jpegs`` hold one file each, as bytes [n]."""
        self.jpegs = jpegs

    @classmethod
    def of(cls, pictures: Iterable[UInt8Array]) -> KeptPictures:
        """Pictures [H, W, 3], read one by one."""
        return cls([np.asarray(cv2.imencode(".jpg", picture, _OPTIONS)[1].ravel(), np.uint8) for picture in pictures])

    def __len__(self) -> int:
        return len(self.jpegs)

    def __iter__(self) -> Iterator[UInt8Array]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, which: Any) -> UInt8Array:
        """One picture [H, W, 3], or those of a slice or an array of indices, [n, H, W, 3].

        Raises:
            LipwrightError: what was kept is no picture.
        """
        if isinstance(which, (int, np.integer)):
            picture = cv2.imdecode(self.jpegs[int(which)], cv2.IMREAD_COLOR)
            if picture is None:
                raise LipwrightError(f"picture {which} of the pack cannot be decoded: make the pack again")
            return np.asarray(picture, np.uint8)
        chosen = np.arange(len(self))[which]
        found = np.empty((len(chosen), *self[0].shape), np.uint8)
        for row, k in enumerate(chosen):
            found[row] = self[int(k)]
        return found
