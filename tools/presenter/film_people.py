"""Film the people that ``make_people`` wrote: one training pack each.

    python -m tools.presenter.film_people head.npz PEOPLE/ PACKS/ --processes 12

Needs numpy, OpenCV and moderngl with EGL, nothing else: it runs on a bare machine with a graphics card. What is there
is not made again: call it again after any interruption. Several machines share the work by ``--first`` and ``--count``.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.contract import ROI_SIZE, FloatArray, Rect, UInt8Array
from lipwright.errors import LipwrightError
from lipwright.training.pack import Pack
from tools.presenter.render import find_frame, render
from tools.running import ASKED, claim, digest_of, in_a_sentence

log = logging.getLogger("film")

_KNOWN = "_known.npz"
#: Share of each film, at its end, that is held out where a pack is used alone.
_HELD_OUT = 5
#: Pieces in which packs travel.
_PIECE = 64 * 2**20


@dataclass(frozen=True)
class Known:
    """All that a pack holds but the pictures, known before anything is filmed. N frames, V versions of the sound."""

    rects: npt.NDArray[np.int32]
    """[N, 4] x1, y1, x2, y2 in the picture."""
    landmarks: FloatArray
    """[N, 68, 2] in ROI pixels."""
    still: npt.NDArray[np.int64]
    lips: npt.NDArray[np.int64]
    mouth: FloatArray
    """[N, 14]."""
    features: npt.NDArray[np.float16]
    """[V, N, 512]."""

    @staticmethod
    def path(script: Path) -> Path:
        """Where the file of a script NAME.json lies."""
        return script.with_name(script.stem + _KNOWN)

    def save(self, script: Path) -> None:
        """Write it beside the script."""
        path = self.path(script)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, allow_pickle=False, **{f.name: getattr(self, f.name) for f in fields(self)})
        part.replace(path)

    @classmethod
    def load(cls, script: Path) -> Known:
        """Read what belongs to a script.

        Raises:
            LipwrightError: it is missing or damaged.
        """
        path = cls.path(script)
        try:
            with np.load(path) as file:
                return cls(**{f.name: file[f.name] for f in fields(cls)})
        except (OSError, ValueError, KeyError) as error:
            raise LipwrightError(
                f"{path} is missing or damaged ({error}): write it with `python -m tools.presenter.make_people`"
            ) from error


def scripts_of(folder: Path) -> list[Path]:
    """The scripts of a folder of people.

    Raises:
        LipwrightError: there are none.
    """
    found = sorted(path.with_name(path.name.removesuffix(_KNOWN) + ".json") for path in folder.glob(f"*{_KNOWN}"))
    if not found:
        raise LipwrightError(f"{folder} holds no people: write them with `python -m tools.presenter.make_people`")
    return found


def rois(frames: Path, rects: npt.NDArray[np.int32]) -> UInt8Array:
    """[N, 320, 320, 3] BGR of rendered frames.

    Raises:
        LipwrightError: a frame is damaged.
    """
    found = np.empty((len(rects), ROI_SIZE, ROI_SIZE, 3), np.uint8)
    for k, rect in enumerate(rects.tolist()):
        path = find_frame(frames, k)
        picture = None if path is None else cv2.imread(str(path))
        if picture is None:
            raise LipwrightError(f"frame {k} in {frames} cannot be read: delete it and call this again")
        found[k] = patch.roi(patch.crop(np.asarray(picture, np.uint8), Rect(*rect), "auto"))
    return found


def film(head: Path, script: Path, out: Path, processes: int = 1) -> Path:
    """Render a person and write OUT/NAME.npz; its frames are deleted afterwards. Nothing happens if the pack is there.

    Raises:
        LipwrightError: a file is missing or damaged, or there is no OpenGL.
    """
    path = out / f"{script.stem}.npz"
    if path.exists():
        return path
    known, frames = Known.load(script), out / "frames" / script.stem
    count = len(known.rects)
    render(head, script, frames, range(count), processes, "jpg")
    Pack(
        rois=rois(frames, known.rects),
        landmarks=known.landmarks,
        still=known.still,
        lips=known.lips,
        mouth=known.mouth,
        features=known.features,
        held_out=(count - count // _HELD_OUT, count),
    ).save(path)
    shutil.rmtree(frames)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("head", type=Path, help="head model made by convert_head")
    parser.add_argument("people", type=Path, help="folder that make_people wrote")
    parser.add_argument("out", type=Path, help="folder for the packs")
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--count", type=int, help="people to film; default: all from the first on")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with in_a_sentence():
        scripts = scripts_of(options.people)
        claim(options.out, {"head": digest_of(options.head), "people": digest_of(options.people / ASKED)})
        chosen = scripts[options.first :][: options.count]
        if not chosen:
            raise LipwrightError(
                f"{options.people} holds {len(scripts)} people: --first {options.first} is none of them"
            )
        packs = []
        for number, script in enumerate(chosen, 1):
            packs.append(film(options.head, script, options.out, options.processes))
            log.info("%s, %d of %d: %.1f MB", packs[-1], number, len(chosen), packs[-1].stat().st_size / 1e6)
        largest = max(path.stat().st_size for path in packs)
        log.info("%d packs; %d at a time fit into %d MiB", len(packs), _PIECE // largest, _PIECE // 2**20)


if __name__ == "__main__":
    main()
