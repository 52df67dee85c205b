"""Put rendered frames and their sound together, with the truth beside the film.

    python -m tools.presenter.clip head.npz SCRIPTS/robin.json PARTS/ robin.mp4

Writes robin.mp4, robin_truth.npz and robin_truth.json, as pack, measure and build read them.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import cv2
import numpy as np

from lipwright.audio.decode import SoundReader
from lipwright.contract import FPS, UInt8Array
from lipwright.errors import LipwrightError
from lipwright.video import VideoWriter
from tools.presenter.figure import Figure
from tools.presenter.head import HeadModel
from tools.presenter.render import STAMP, find_frame, parse_frames
from tools.presenter.script import Script, digest
from tools.presenter.truth import Truth
from tools.running import in_a_sentence

log = logging.getLogger("clip")

_COMMENT = "A synthetic person and a synthetic voice."


def check_frames(folder: Path, script: Path, frames: range) -> None:
    """Are these frames of the script there?

    Raises:
        LipwrightError: some are missing, or they belong to another script.
    """
    stamp = folder / STAMP
    if not stamp.exists() or stamp.read_text(encoding="ascii") != digest(script):
        raise LipwrightError(f"{folder} holds no frames of {script}: render them with tools.presenter.render")
    missing = [k for k in frames if find_frame(folder, k) is None]
    if missing:
        raise LipwrightError(
            f"{len(missing)} of {len(frames)} frames are missing in {folder}, the first is {missing[0]}: "
            f"python -m tools.presenter.render HEAD.npz {script} {folder}"
        )


def read_frame(folder: Path, k: int) -> UInt8Array:
    """[h, w, 3] BGR.

    Raises:
        LipwrightError: the file is damaged.
    """
    path = find_frame(folder, k)
    picture = None if path is None else cv2.imread(str(path))
    if picture is None:
        raise LipwrightError(f"frame {k} in {folder} cannot be read: delete it and render it again")
    return np.asarray(picture, dtype=np.uint8)


def make_clip(head: Path, script: Path, parts: Path, out: Path, crf: float, frames: str = ":") -> Truth:
    """Encode the film and write its truth; ``frames`` is the stretch A:B of the script.

    Raises:
        LipwrightError: a file is missing or belongs to another script.
    """
    whole = Script.load(script)
    stretch = parse_frames(frames, whole.frames)
    check_frames(parts, script, stretch)
    said = whole.cut(stretch)
    truth = Truth.of(Figure(HeadModel.load(head), said.person), said)
    with SoundReader(script.with_suffix(".wav")) as reader:
        rate, sound = reader.rate, np.concatenate(list(reader))
    samples = rate // FPS
    camera = said.camera
    with VideoWriter(out, camera.width, camera.height, rate, 1, crf, "slow", comment=_COMMENT) as writer:
        for k in stretch:
            writer.write(read_frame(parts, k), sound[k * samples : (k + 1) * samples])
    truth.save(out.with_suffix(""), said)
    return truth


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("head", type=Path)
    parser.add_argument("script", type=Path)
    parser.add_argument("parts", type=Path, help="folder of the rendered frames")
    parser.add_argument("out", type=Path, help="the film, .mp4")
    parser.add_argument("--crf", type=float, default=18)
    parser.add_argument("--frames", default=":", help="A:B, B not included; default: all")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with in_a_sentence():
        truth = make_clip(options.head, options.script, options.parts, options.out, options.crf, options.frames)
    log.info("%s: %d frames, lip gap up to %.2f cm", options.out, len(truth.lip_gap), truth.lip_gap.max())


if __name__ == "__main__":
    main()
