"""How much like the true chin is the redrawn one, pasted as the family does it and blended with the frame's own grain?

    python -m tools.presenter.grain AVATAR robin.mp4 robin_paired.mp4 --frames 60 --quality full

The template is the first film; it is redrawn with the sound of the second, which shows the same head saying something
else and is the truth. Looked at are chin and jaw below the lips, where speech moves skin and nothing else, and the
mouth itself: likeness, fine detail as a share of the truth's, and whether each pore is where it should be (r).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2
import numpy as np

from lipwright import patch
from lipwright.avatar import Avatar
from lipwright.contract import CROP_SIZE, FloatArray, Quality, Rect, UInt8Array
from lipwright.picture import BgrPicture
from lipwright.quality import psnr, sharpness_ratio
from lipwright.render import Networks
from tools.presenter.film import Film
from tools.presenter.measure import windows

#: Left, top, right and bottom in a crop, by the family's rule for rects.
CHIN, MOUTH = (90, 200, 238, 275), (82, 98, 246, 203)
#: Finer than this Gaussian (pixels) is fine structure.
_FINE = 2.0


@dataclass(frozen=True)
class Likeness:
    """Of one part of a picture, to the truth."""

    psnr_db: float
    fine: float
    """Fine detail, as a share of the truth's."""
    r: float
    """Correlation of the fine structure of the brightness."""

    @classmethod
    def of(cls, picture: UInt8Array, truth: UInt8Array, box: Rect) -> Likeness:
        """Pictures [H, W, 3] BGR."""
        there = np.s_[box.y1 : box.y2, box.x1 : box.x2]
        r = np.corrcoef(_fine(picture)[there].ravel(), _fine(truth)[there].ravel())[0, 1]
        return cls(psnr(picture, truth, box), sharpness_ratio(picture, truth, box), float(r))


def _fine(picture: UInt8Array) -> FloatArray:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), _FINE), np.float32)


def part(rect: Rect, crop_box: tuple[int, int, int, int]) -> Rect:
    """A box of the crop in the frame that the rect was cut from."""
    x1, y1, x2, y2 = (round(v * rect.width / CROP_SIZE) for v in crop_box)
    return Rect(rect.x1 + x1, rect.y1 + y1, rect.x1 + x2, rect.y1 + y2)


def finished(frame: UInt8Array, rect: Rect, roi: UInt8Array, how: patch.Resize) -> dict[str, UInt8Array]:
    """The frame with its new ROI, in both ways."""
    whole = BgrPicture(frame)
    crop = patch.crop(frame, rect, how)
    return {
        "pasted": patch.paste(frame, rect, crop, roi, how),
        "blended": whole.changed(rect, patch.change(whole.piece(rect), crop, roi, how)).bgr,
    }


def likenesses(avatar: Avatar, template: Film, spoken: Film, count: int) -> Iterator[tuple[str, str, Likeness]]:
    """Way, part and likeness for each of ``count`` frames, evenly over the film."""
    networks, how = Networks.open(avatar), avatar.manifest.resize
    heard = windows(networks, avatar, spoken.path)
    chosen = set(np.linspace(0, len(heard) - 1, count).astype(int).tolist())
    rects = template.rects()
    for k, (frame, truth) in enumerate(zip(template.frames(), spoken.frames(), strict=False)):
        if k not in chosen:
            continue
        rect = Rect(*map(int, rects[k]))
        roi = networks.redraw(patch.roi(patch.crop(frame, rect, how))[None], heard[k : k + 1]).rois[0]
        for way, picture in finished(frame, rect, roi, how).items():
            for name, box in (("chin", CHIN), ("mouth", MOUTH)):
                yield way, name, Likeness.of(picture, truth, part(rect, box))


def table(found: list[tuple[str, str, Likeness]]) -> Iterator[str]:
    """Medians over the frames."""
    yield "| part | drawn | PSNR dB | fine detail | r of fine structure |"
    yield "|---|---|---|---|---|"
    for place, way in dict.fromkeys((place, way) for way, place, _ in found):
        figures = [(f.psnr_db, f.fine, f.r) for w, p, f in found if (p, w) == (place, way)]
        likely, fine, r = np.median(np.array(figures), axis=0)
        yield f"| {place} | {way} | {likely:.2f} | {fine:.2f} | {r:.2f} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("avatar", type=Path)
    parser.add_argument("template", type=Path)
    parser.add_argument("spoken", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--quality", choices=get_args(Quality), default="full")
    options = parser.parse_args()
    films = Film.open(options.template), Film.open(options.spoken)
    for line in table(list(likenesses(Avatar.open(options.avatar).at(options.quality), *films, options.frames))):
        print(line)


if __name__ == "__main__":
    main()
