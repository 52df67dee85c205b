"""A sheet of moments from a film, to judge it by eye.

python tools/sheet.py FILM.mp4 SHEET.jpg --frames 24 [--columns 6] [--box x1,y1,x2,y2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from lipwright.contract import UInt8Array
from lipwright.video import VideoReader

_CELL_WIDTH = 320


def cells(film: Path, count: int, box: tuple[int, int, int, int] | None) -> list[UInt8Array]:
    """``count`` pictures spread evenly over the film, cut to ``box``, with their time written on them."""
    with VideoReader(film) as reader:
        total = sum(1 for _ in reader)
    chosen = set(np.linspace(0, total - 1, count).astype(int).tolist())
    with VideoReader(film) as reader:
        return [_cell(picture, k, box) for k, picture in enumerate(reader) if k in chosen]


def _cell(picture: UInt8Array, frame: int, box: tuple[int, int, int, int] | None) -> UInt8Array:
    x1, y1, x2, y2 = box or (0, 0, picture.shape[1], picture.shape[0])
    cut = picture[y1:y2, x1:x2]
    height = round(_CELL_WIDTH * cut.shape[0] / cut.shape[1])
    small = np.ascontiguousarray(cv2.resize(cut, (_CELL_WIDTH, height), interpolation=cv2.INTER_AREA))
    text = f"{frame / 25:.2f} s"
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(small, text, (6, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    return np.asarray(small, dtype=np.uint8)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("film", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--box", type=lambda text: tuple(int(v) for v in text.split(",")))
    options = parser.parse_args()
    pictures = cells(options.film, options.frames, options.box)
    pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % options.columns)
    rows = [np.concatenate(pictures[i : i + options.columns], axis=1) for i in range(0, len(pictures), options.columns)]
    cv2.imwrite(str(options.out), np.concatenate(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
