"""How far the film report's thresholds lie from good films, and from the faults: a covered mouth, and music.

    LIPWRIGHT_DEV_DATA=FOLDER python -m tools.film_thresholds

FOLDER holds video/*.mp4 and speech/*: nothing in them covers a mouth or plays music, so both are added.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lipwright.audio.decode import hear
from lipwright.contract import FloatArray, UInt8Array
from lipwright.face import FaceFinder, FaceTracker, mouth_bounds
from lipwright.prepare.judge import LEAST_REDNESS, PALE_LIPS
from lipwright.prepare.looks import Looks
from lipwright.prepare.sound import MUSIC_SHARE, tonal_shares
from lipwright.training.disguise import mix
from lipwright.training.sounds import music
from lipwright.video import VideoReader
from tools.film_score import FILMS

#: Every so many frames of a film are looked at.
EVERY = 5
#: How far added music lies below the voice, dB, and the seeds of its pieces.
BELOW_DB = (15.0, 25.0)
PIECES = range(3)
#: What recordings end with.
SOUNDS = (".wav", ".flac", ".mp4")
#: A point of the mesh on the cheek, whose colour a hand has.
_CHEEK = 50


def covered(picture: UInt8Array, landmarks: FloatArray) -> UInt8Array:
    """The picture [H, W, 3] with something of the colour of the cheek before the mouth."""
    x, y = (round(float(v)) for v in landmarks[_CHEEK, :2])
    colour = np.median(picture[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3), axis=0)
    x1, y1, x2, y2 = mouth_bounds(landmarks)
    centre, reach = (round((x1 + x2) / 2), round((y1 + y2) / 2)), round(0.8 * (x2 - x1))
    hand = cv2.circle(picture.copy(), centre, reach, colour.tolist(), -1)
    return np.asarray(cv2.GaussianBlur(hand, (0, 0), 0.7), np.uint8)


def redness(film: Path) -> tuple[FloatArray, FloatArray]:
    """Of every ``EVERY``-th frame with a face: how red the lips are as they are, and covered."""
    tracker, bare, hidden = FaceTracker(FaceFinder()), [], []
    with VideoReader(film) as reader:
        for k, picture in enumerate(reader):
            face = tracker.follow(picture)
            if face is None or k % EVERY:
                continue
            bare.append(Looks.of(picture, face.landmarks).lip_redness)
            hidden.append(Looks.of(covered(picture, face.landmarks), face.landmarks).lip_redness)
    return np.array(bare, np.float32), np.array(hidden, np.float32)


def most_tonal(samples: FloatArray) -> float:
    """Of all spans of a recording, 16 kHz mono."""
    return max((share for _, share in tonal_shares(samples)), default=0.0)


def with_music(samples: FloatArray, below_db: float) -> Iterator[float]:
    """``most_tonal`` of the recording with each piece of music behind it."""
    for seed in PIECES:
        yield most_tonal(mix(samples, music(np.random.default_rng(seed), len(samples)), below_db))


def tell_redness(folder: Path) -> None:
    """One line a film."""
    print("| film | lips' usual redness | least, share of it | most when covered, share of it |\n|---|---|---|---|")
    for name in FILMS:
        bare, hidden = redness(folder / f"{name}.mp4")
        usual = float(np.median(bare))
        print(f"| {name} | {usual:.1f} | {bare.min() / usual:.2f} | {hidden.max() / usual:.2f} |")
    print(f"\ncovered: below {PALE_LIPS} of the usual redness, where that is above {LEAST_REDNESS}\n")


def tell_music(recordings: list[Path]) -> None:
    """One line a recording."""
    head = " | ".join(f"music {db:.0f} dB below" for db in BELOW_DB)
    print(f"| recording | as it is | {head} |\n|---|---|{'---|' * len(BELOW_DB)}")
    for path in recordings:
        samples = hear(path)
        added = (" ".join(f"{share:.2f}" for share in with_music(samples, db)) for db in BELOW_DB)
        print(f"| {path.name} | {most_tonal(samples):.2f} | {' | '.join(added)} |")
    print(f"\nmusic: a share of lines above {MUSIC_SHARE} in the pauses of any 4 s")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    folder = Path(os.environ["LIPWRIGHT_DEV_DATA"])
    tell_redness(folder / "video")
    tell_music(sorted(p for p in folder.glob("*/*") if p.suffix in SOUNDS))


if __name__ == "__main__":
    main()
