"""The contact sheet: pictures of a film that show what is used of it, and every fault that a picture can show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lipwright.contract import Rect, UInt8Array
from lipwright.prepare.judge import Judged
from lipwright.prepare.problems import Kind, Problem, clock
from lipwright.video import VideoReader

#: Pictures on the sheet: so many that are used, and at most so many with a problem.
USED_PICTURES = 8
PROBLEM_PICTURES = 12
_TILE_WIDTH, _TILE_HEIGHT = 320, 240
_COLUMNS = 4
_CAPTION = 26
#: A picture is cut to so many widths of the face around it, so that the mouth can be seen.
_AROUND_FACE = 3.0
#: What colours mean, BGR: used; used with a fault; left out.
_GREEN, _AMBER, _RED = (90, 170, 60), (30, 150, 235), (60, 60, 220)
_GREY, _INK, _PAPER = (225, 225, 225), (40, 40, 40), 255
#: What no picture shows.
_UNSEEN = {Kind.NO_SOUND, Kind.MUSIC, Kind.OTHER_VOICE, Kind.CLIPPED, Kind.APART, Kind.UNRELATED, Kind.SHORT}
#: What only the whole picture shows.
_WIDE = {Kind.NO_FACE, Kind.SEVERAL_FACES, Kind.SMALL}


def contact_sheet(template: Path, judged: Judged) -> UInt8Array:
    """[H, W, 3] BGR: frames that are used and frames with problems, by time, each with its time and name.

    Args:
        template: the film at 25 frames a second.
        judged: what is used of it.
    """
    chosen = _chosen(judged)
    tiles = []
    with VideoReader(template) as film:
        for frame, problem in sorted(chosen.items()):
            picture = next(film.read(frame, frame + 1))
            tiles.append(_tile(_shown(picture, judged, frame, problem), frame, problem))
    blank = np.full_like(tiles[0], _PAPER)
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[k : k + _COLUMNS]) for k in range(0, len(tiles), _COLUMNS)]
    return np.asarray(np.vstack(rows), np.uint8)


def _chosen(judged: Judged) -> dict[int, Problem | None]:
    """Frames for the sheet and the problem each shows, None for one that is used."""
    usable = np.flatnonzero(judged.usable)
    places = np.linspace(0, len(usable) - 1, min(USED_PICTURES, len(usable))).round().astype(int)
    chosen: dict[int, Problem | None] = {int(usable[place]): None for place in places}
    for problem in _spread([p for p in judged.problems if p.kind not in _UNSEEN]):
        middle = problem.start if problem.kind is Kind.CUT else (problem.start + problem.stop) // 2
        chosen[middle] = problem
    return chosen or {0: None}


def _spread(problems: Sequence[Problem]) -> list[Problem]:
    """At most ``PROBLEM_PICTURES``: the longest of each kind first, then the next."""
    turns: list[tuple[int, Problem]] = []
    for kind in dict.fromkeys(p.kind for p in problems):
        longest = sorted((p for p in problems if p.kind is kind), key=lambda p: (p.start - p.stop, p.start))
        turns += enumerate(longest)
    turns.sort(key=lambda turn: turn[0])
    return [problem for _, problem in turns[:PROBLEM_PICTURES]]


def _shown(picture: UInt8Array, judged: Judged, frame: int, problem: Problem | None) -> UInt8Array:
    """What a tile shows of a picture: the face with its rect, or all of it where that is what matters."""
    rect, place = Rect(*judged.rects[frame].tolist()), _nearest_rect(judged, frame)
    if place is None:
        return picture
    drawn = picture.copy()
    if rect.usable:
        thickness = max(1, round(2 * rect.width * _AROUND_FACE / _TILE_WIDTH))
        cv2.rectangle(drawn, (rect.x1, rect.y1), (rect.x2 - 1, rect.y2 - 1), _GREEN, thickness)
    return drawn if problem is not None and problem.kind in _WIDE else _around(drawn, place)


def _nearest_rect(judged: Judged, frame: int) -> Rect | None:
    """Where the face is in a frame or, when the frame is left out, in the nearest one that is used; None: nowhere."""
    usable = np.flatnonzero(judged.usable)
    if not len(usable):
        return None
    return Rect(*judged.rects[usable[np.abs(usable - frame).argmin()]].tolist())


def _tile(picture: UInt8Array, frame: int, problem: Problem | None) -> UInt8Array:
    """A small picture in a coloured frame, and a caption above."""
    small = _fitted(picture)
    colour = _GREEN if problem is None else _RED if problem.left_out else _AMBER
    cv2.rectangle(small, (0, 0), (_TILE_WIDTH - 1, _TILE_HEIGHT - 1), colour, 5)
    caption = np.full((_CAPTION, _TILE_WIDTH, 3), _GREY, np.uint8)
    text = f"{clock(frame)}  {'used' if problem is None else problem.kind}"
    cv2.putText(caption, text, (6, _CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
    return np.asarray(np.vstack([caption, small]), np.uint8)


def _around(picture: UInt8Array, rect: Rect) -> UInt8Array:
    """The part of the picture around a face, as wide as a tile where the picture allows it."""
    height, width = picture.shape[:2]
    wanted = rect.width * _AROUND_FACE
    columns, rows = min(width, round(wanted)), min(height, round(wanted * _TILE_HEIGHT / _TILE_WIDTH))
    left = int(np.clip((rect.x1 + rect.x2 - columns) // 2, 0, width - columns))
    # The rect begins at the bridge of the nose: the face's middle is its upper edge, nearly.
    top = int(np.clip(rect.y1 + rect.height // 4 - rows // 2, 0, height - rows))
    return picture[top : top + rows, left : left + columns]


def _fitted(picture: UInt8Array) -> UInt8Array:
    """The whole picture in the middle of a grey tile [240, 320, 3]."""
    height, width = picture.shape[:2]
    scale = min(_TILE_WIDTH / width, _TILE_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.full((_TILE_HEIGHT, _TILE_WIDTH, 3), _GREY, np.uint8)
    left, top = (_TILE_WIDTH - size[0]) // 2, (_TILE_HEIGHT - size[1]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile
