"""The way frames are really made, with all its short cuts, against the plainest way to make the same frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from math import nan
from pathlib import Path

import numpy as np

from lipwright import patch
from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar
from lipwright.check.difference import Meter
from lipwright.check.findings import Finding
from lipwright.check.limits import FAST_EXACT, FAST_SOFT, Limits
from lipwright.check.lips import LipGaps, likeness, plain_frame
from lipwright.check.parity import Comparison, Look, chosen, file_name
from lipwright.check.sheets import four_way, write_png
from lipwright.contract import ROI_SIZE, Border, FloatArray, Rect, UInt8Array
from lipwright.errors import LipwrightError, MissingExtraError, RuntimeUnavailableError
from lipwright.picture import Frame
from lipwright.render import Networks, Renderer
from lipwright.render.voice import Voice
from lipwright.runtimes import all_lanes
from lipwright.trial import REFERENCE, Question, Way, crop_of, pictures

SECTION = "fast path"
LIMITS: dict[Border, Limits] = {"soft": FAST_SOFT, "exact": FAST_EXACT}


@dataclass(frozen=True, slots=True)
class Made:
    """A frame made the plain way."""

    frame: int
    """Of the template."""
    rect: Rect
    """Where its face is."""
    parts: dict[Border, UInt8Array]
    """[h, w, 3] BGR what the rect then shows; empty where nothing is redrawn."""


class PlainPath:
    """Frames made with nothing but whole BGR pictures and one call of the network for each.

    Args:
        avatar: who speaks.
        sound: what is heard.
        networks: of the avatar.
        frames: of the template, forwards, without a cut between them.
    """

    def __init__(self, avatar: Avatar, sound: Path, networks: Networks, frames: range) -> None:
        self.avatar, self.sound, self.networks, self.frames = avatar, sound, networks, frames
        gaps = LipGaps()
        moments = zip(frames, self.pictures(), self._windows(), strict=False)
        self.made = [self._make(k, picture, window, gaps) for k, picture, window in moments]
        self.gaps = gaps.result()

    def pictures(self) -> Iterator[UInt8Array]:
        """The template frames as they were filmed."""
        return pictures(self.avatar, self.frames)

    def _make(self, k: int, picture: UInt8Array, window: FloatArray, gaps: LipGaps) -> Made:
        rect = self.avatar.rect(k)
        if not rect.usable:
            gaps.add(picture)
            return Made(k, rect, {})
        question = Question(k, rect, crop_of(self.avatar, picture, k), window)
        output = self.networks.draw(*question.inputs)[0]
        soft = plain_frame(self.avatar, question, picture, output, "soft")
        exact = plain_frame(self.avatar, question, picture, output, "exact")
        gaps.add(soft)
        return Made(k, rect, {"soft": _part(soft, rect).copy(), "exact": _part(exact, rect).copy()})

    def _windows(self) -> Iterator[FloatArray]:
        """[32, 16, 16] frame by frame, pauses calmed as in every render."""
        manifest = self.avatar.manifest
        with SoundReader(self.sound) as sound:
            alignment = manifest.encoder.alignment.to_contract()
            voice = Voice(sound.rate, sound.channels, self.networks, alignment, manifest.window.padding)
            for chunk in sound:
                yield from (moment.window for moment in voice.push(chunk))
            yield from (moment.window for moment in voice.flush())


def uncut(avatar: Avatar, start: int, count: int) -> range:
    """At most ``count`` frames from ``start`` on without a cut between them."""
    ends = [s.stop for s in avatar.manifest.segments if s.start <= start < s.stop] or [avatar.frame_count]
    return range(start, min(start + count, ends[0]))


def fast_path(
    avatar: Avatar, sound: Path, frames: range, way: Way, folder: Path, look: Look
) -> tuple[list[Finding], list[Comparison]]:
    """Frames of ``Renderer`` against plain ones drawn the same way: rects by the limits, the rest to the bit.

    The reference way is also looked at with the family's border, which has to agree to a level or two.
    """
    try:
        plain = PlainPath(avatar, sound, Networks.open(avatar, way.runtime, way.precision, all_lanes()), frames)
        borders: tuple[Border, ...] = ("soft", "exact") if way == Way(REFERENCE, "f32") else ("soft",)
        found = [_compare(plain, way, border, look, folder) for border in borders]
    except (RuntimeUnavailableError, MissingExtraError):
        return [], []  # said already where the networks were compared
    except LipwrightError as error:
        return [Finding.limited(SECTION, str(way), str(error), "it runs", False)], []
    return [finding for findings, _ in found for finding in findings], [comparison for _, comparison in found]


def _compare(plain: PlainPath, way: Way, border: Border, look: Look, folder: Path) -> tuple[list[Finding], Comparison]:
    limits = LIMITS[border]
    name = f"{way}, {border} border"
    meter, gaps, changed, rows = Meter(), LipGaps(), 0, {}
    for made, picture, frame in zip(plain.made, plain.pictures(), _rendered(plain, border), strict=False):
        look(1)
        changed += not _equal_outside(frame.image, picture, made.rect)
        if limits.lip_gap_r is not None:
            gaps.add(frame.image)
        if made.parts:
            part = _part(frame.image, made.rect)
            meter.add(_values(made.parts[border]), _values(part))
            rows[made.frame] = _row(made.frame, _part(picture, made.rect), made.parts[border], part)
    r = likeness(gaps.result(), plain.gaps) if limits.lip_gap_r is not None else nan
    difference = replace(meter.result(), lip_gap_r=r)
    sheet = f"sheet-fast-{border}-{file_name(way)}.png"
    shown = list(rows)
    write_png(np.concatenate([rows[shown[p]] for p in chosen(shown, difference.worst, ())]), folder / sheet)
    told = f"{changed} of {len(plain.made)} frames changed"
    outside = Finding.limited(SECTION, f"{name}: outside the rect", told, "no pixel changes", changed == 0)
    findings = [*difference.findings(SECTION, name, limits), outside]
    return findings, Comparison(f"fast path, {name}", plain.networks.generator.detail, difference, sheet, None)


def _rendered(plain: PlainPath, border: Border) -> Iterator[Frame]:
    """As many frames of ``Renderer`` as there are plain ones."""
    start, networks = plain.frames.start, plain.networks
    with (
        SoundReader(plain.sound) as sound,
        Renderer(plain.avatar, sound.rate, sound.channels, networks=networks, start=start, border=border) as renderer,
        closing(renderer.stream(sound)) as frames,
    ):
        yield from islice(frames, len(plain.made))


def _part(image: UInt8Array, rect: Rect) -> UInt8Array:
    return image[rect.y1 : rect.y2, rect.x1 : rect.x2]


def _equal_outside(image: UInt8Array, picture: UInt8Array, rect: Rect) -> bool:
    """Whether two frames are equal but for the rect."""
    apart = (image != picture).any(axis=2)
    if rect.usable:
        apart[rect.y1 : rect.y2, rect.x1 : rect.x2] = False
    return not apart.any()


def _values(part: UInt8Array) -> FloatArray:
    """[h, w, 3] to [3, h, w] 0..1."""
    return np.asarray(part.transpose(2, 0, 1), np.float32) / np.float32(255)


def _row(k: int, picture: UInt8Array, expected: UInt8Array, got: UInt8Array) -> UInt8Array:
    tiles = [patch.resize(part, ROI_SIZE, ROI_SIZE, "auto") for part in (picture, expected, got)]
    return four_way(tiles[0], tiles[1], tiles[2], (f"template frame {k}", "plain path", "fast path"))
