"""Render the frames of a script.

    python -m tools.presenter.render head.npz SCRIPTS/robin.json PARTS/ --frames 0:2400 --processes 2

Needs numpy, OpenCV and moderngl with EGL, nothing else: it runs on a bare machine with a graphics card. A frame is
written whole or not at all, and frames that are there are not made again: call it again after any interruption. The
frames of several machines can be put into one folder.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from lipwright.contract import UInt8Array
from lipwright.errors import LipwrightError
from tools.presenter import gl
from tools.presenter.head import HeadModel
from tools.presenter.lens import develop
from tools.presenter.painter import Painter
from tools.presenter.scene import Scene
from tools.presenter.script import Script, digest
from tools.running import in_a_sentence

log = logging.getLogger("render")

#: In the folder of the frames: sha256 of the script they belong to.
STAMP = "script.sha256"
FORMATS = {"png": [cv2.IMWRITE_PNG_COMPRESSION, 3], "jpg": [cv2.IMWRITE_JPEG_QUALITY, 97]}
_REPORT_SECONDS = 10.0


def frame_path(folder: Path, k: int, form: str) -> Path:
    """Where frame ``k`` lies."""
    return folder / f"{k:06d}.{form}"


def find_frame(folder: Path, k: int) -> Path | None:
    """The file of frame ``k`` in any format, if it is there."""
    paths = (frame_path(folder, k, form) for form in FORMATS)
    return next((p for p in paths if p.exists()), None)


class Film:
    """One script in front of one camera."""

    def __init__(self, head: Path, script: Path) -> None:
        self.script = Script.load(script)
        scene = Scene.of(HeadModel.load(head), self.script.person)
        if scene.figure.channels != self.script.channels:
            raise LipwrightError(f"{script} was written for another head model than {head}: write the script again")
        self.painter = Painter(scene, self.script.camera, place=self.script.place)

    def frame(self, k: int) -> UInt8Array:
        """[height, width, 3] BGR; the same whenever and in whichever order it is asked for."""
        noise = np.random.default_rng((self.script.seed, k))
        light = self.painter.paint(self.script.pose(k))
        return develop(light, self.script.look, float(self.script.exposure[k]), noise)


@lru_cache(maxsize=1)
def _film(head: Path, script: Path) -> Film:
    """Made once in each process."""
    cv2.setNumThreads(1)
    return Film(head, script)


def _render(task: tuple[Path, Path, Path, int]) -> int:
    """Write one frame beside its place and move it there."""
    head, script, path, k = task
    done, coded = cv2.imencode(path.suffix, _film(head, script).frame(k), FORMATS[path.suffix[1:]])
    if not done:
        raise LipwrightError(f"OpenCV cannot encode {path}: choose another --format")
    part = path.with_suffix(".part")
    part.write_bytes(coded.tobytes())
    part.replace(path)
    return k


def claim(folder: Path, script: Path) -> None:
    """Make the folder this script's own.

    Raises:
        LipwrightError: it holds frames of another script.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp, mine = folder / STAMP, digest(script)
    if stamp.exists() and stamp.read_text(encoding="ascii") != mine:
        raise LipwrightError(f"{folder} holds frames of another script: choose an empty folder or delete it")
    stamp.write_text(mine, encoding="ascii")


def parse_frames(text: str, count: int) -> range:
    """``A:B`` (B not included, either may be missing) of ``count`` frames.

    Raises:
        LipwrightError: it is no such range.
    """
    first, colon, last = text.partition(":")
    try:
        found = range(int(first or 0), min(int(last or count), count))
    except ValueError as error:
        raise LipwrightError(f"--frames {text}: write A:B, such as 0:250") from error
    if not colon or found.start < 0 or len(found) == 0:
        raise LipwrightError(f"--frames {text} names none of the {count} frames: write A:B with A < B <= {count}")
    return found


def _each(tasks: list[tuple[Path, Path, Path, int]], processes: int) -> Iterator[int]:
    if processes == 1:
        yield from map(_render, tasks)
        return
    # a GL context does not survive a fork
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(_render, tasks)
        except BrokenProcessPool as error:
            raise LipwrightError("a render process was killed (out of memory?): call it again") from error


def render(head: Path, script: Path, out: Path, frames: range, processes: int = 1, form: str = "png") -> int:
    """Render what is missing of ``frames``; returns how many were made.

    Raises:
        LipwrightError: a file is missing, ``out`` belongs to another script, or there is no OpenGL.
    """
    gl.open_context().release()
    claim(out, script)
    missing = [k for k in frames if find_frame(out, k) is None]
    log.info("%d of %d frames are to be made", len(missing), len(frames))
    tasks = [(head, script, frame_path(out, k, form), k) for k in missing]
    started = told = time.monotonic()
    for done, _ in enumerate(_each(tasks, processes), 1):
        now = time.monotonic()
        if now - told > _REPORT_SECONDS or done == len(tasks):
            told = now
            log.info("%d/%d, %.0f s left", done, len(tasks), (now - started) / done * (len(tasks) - done))
    return len(missing)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("head", type=Path, help="head model made by convert_head")
    parser.add_argument("script", type=Path, help="script made by make_script")
    parser.add_argument("out", type=Path, help="folder for the frames")
    parser.add_argument("--frames", default=":", help="A:B, B not included; default: all")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--format", choices=sorted(FORMATS), default="png")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with in_a_sentence():
        frames = parse_frames(options.frames, Script.load(options.script).frames)
        render(options.head, options.script, options.out, frames, options.processes, options.format)


if __name__ == "__main__":
    main()
