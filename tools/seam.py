"""How visible is the border of the redrawn region, blended (the default) and pasted as the family does it?

    python -m tools.seam [AVATAR] [--sound SPEECH.wav] [--frames 50]

Prints, for both, the largest step in colour that redrawing added along any square around the mouth, in levels of 255:
its mean over the frames, and what nineteen of twenty frames stay below. Without an avatar, the built-in presenter.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np

from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar, builtin_avatar, builtin_sound
from lipwright.contract import Border, UInt8Array
from lipwright.quality import worst_seam
from lipwright.render import Networks, Renderer
from lipwright.render.template import Walk
from lipwright.video import VideoReader


def excesses(avatar: Avatar, networks: Networks, sound: Path, border: Border, count: int) -> list[float]:
    """The worst seam of each of ``count`` frames of the avatar saying ``sound``."""
    walk = Walk.of(avatar)
    found = []
    with (
        SoundReader(sound) as reader,
        Renderer(avatar, reader.rate, reader.channels, networks=networks, border=border) as renderer,
    ):
        for frame in islice(renderer.stream(reader), count):
            k = walk(frame.index)
            if avatar.rect(k).usable:
                found.append(worst_seam(frame.image, original(avatar, k), avatar.rect(k)).excess)
    return found


def original(avatar: Avatar, frame: int) -> UInt8Array:
    """A template frame as it was filmed."""
    with VideoReader(avatar.template) as film:
        return next(iter(film.read(frame, frame + 1)))


def lines(avatar: Avatar, sound: Path, count: int) -> Iterator[str]:
    """One line for each border."""
    networks = Networks.open(avatar)
    for border in get_args(Border):
        found = excesses(avatar, networks, sound, border, count)
        yield f"{border:6s} mean {np.mean(found):5.2f}   95 % below {np.percentile(found, 95):5.2f}   of 255"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("avatar", nargs="?", default=builtin_avatar())
    parser.add_argument("--sound", type=Path, default=builtin_sound())
    parser.add_argument("--frames", type=int, default=50)
    options = parser.parse_args()
    for line in lines(Avatar.open(options.avatar), options.sound, options.frames):
        print(line)


if __name__ == "__main__":
    main()
