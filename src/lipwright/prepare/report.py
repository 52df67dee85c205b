"""The film report: a page and a sheet of pictures that somebody who never trained a network understands."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np

from lipwright.contract import FPS, Rect, UInt8Array
from lipwright.prepare.judge import Judged
from lipwright.prepare.problems import ADVICE, SHORTEST, Kind, Problem, clock
from lipwright.video import VideoReader

#: Pictures on the sheet: so many that are used, and at most so many with a problem.
USED_PICTURES = 8
PROBLEM_PICTURES = 12
_TILE_WIDTH = 320
_COLUMNS = 4
_CAPTION = 26
_GREEN, _RED, _GREY = (90, 170, 60), (60, 60, 220), (225, 225, 225)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Film report: {name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .35rem .6rem; vertical-align: top; border-bottom: 1px solid #ddd }}
.bar {{ display: block; width: 100%; height: 28px; border-radius: 4px }}
.verdict {{ font-size: 1.25rem }} img {{ width: 100% }} .out {{ color: #b00020 }} .kept {{ color: #666 }}
</style></head><body>
<h1>Film report: {name}</h1>
<p class="verdict">{verdict}</p>
<svg class="bar" viewBox="0 0 {frames} 10" preserveAspectRatio="none" role="img" aria-label="used parts of the film">
<rect width="{frames}" height="10" fill="#dc3c3c"/>{bars}</svg>
<p>From the first to the last second: green is used, red is left out. What is left out is shown as it was filmed and
gets no new mouth.</p>
<h2>The film</h2><table>{facts}</table>
<h2>What was found</h2>{found}
<h2>How to film it better</h2>{advice}
<h2>Pictures</h2><p>Green frame: used, with the square that gets the new mouth. Red frame: a problem, named above the
picture.</p><img alt="contact sheet" src="data:image/jpeg;base64,{sheet}">
</body></html>
"""


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """What the page says of the film itself."""

    name: str
    """The film's file name."""
    width: int
    height: int
    rate: float
    """Pictures a second in the file."""
    frames: int
    """Pictures at 25 a second."""


def write_report(page: Path, sheet: Path, facts: FilmFacts, judged: Judged, template: Path) -> None:
    """Write ``page`` (HTML, whole in itself) and ``sheet`` (JPEG) with pictures from ``template``."""
    picture = contact_sheet(template, judged)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    sheet.write_bytes(encoded)
    page.write_text(_page(facts, judged, base64.b64encode(encoded).decode("ascii")), encoding="utf-8")


# --- the page -------------------------------------------------------------------------------------------------------
def _page(facts: FilmFacts, judged: Judged, sheet: str) -> str:
    problems = judged.problems
    kinds = list(dict.fromkeys(problem.kind for problem in problems))
    rows = "".join(_row(problem) for problem in problems)
    table = f"<table><tr><th>When</th><th>What</th><th>Why</th><th>Used?</th></tr>{rows}</table>"
    advice = "".join(f"<li><b>{escape(kind)}:</b> {escape(ADVICE[kind])}</li>" for kind in kinds)
    return _PAGE.format(
        name=escape(facts.name),
        verdict=escape(verdict(judged)),
        frames=facts.frames,
        bars="".join(_bar(first, stop) for first, stop in _used(judged)),
        facts="".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in _facts(facts, judged)),
        found=table if problems else "<p>Nothing to complain about.</p>",
        advice=f"<ul>{advice}</ul>" if kinds else "<p>Film the next one just like this.</p>",
        sheet=sheet,
    )


def verdict(judged: Judged) -> str:
    """The whole report in a sentence or two."""
    seconds, whole = judged.usable.sum() / FPS, len(judged.rects) / FPS
    kinds = {problem.kind for problem in judged.problems}
    if not seconds:
        return "Nothing of this film can be used: no face was seen well enough. See below what to change."
    used = f"{seconds:.0f} of {whole:.0f} seconds can be used."
    if Kind.NO_SOUND in kinds and judged.offset.r != judged.offset.r:
        return f"{used} It has no speech that could be learnt from: give the sound with --audio."
    if seconds < SHORTEST:
        return f"{used} That is too short: {SHORTEST:.0f} seconds are the least, two minutes are good."
    return f"{used} " + ("See below what would make it better." if kinds else "It is a good film for an avatar.")


def _facts(facts: FilmFacts, judged: Judged) -> list[tuple[str, str]]:
    face = "none" if np.isnan(judged.face_width) else f"{judged.face_width:.0f} pixels wide"
    return [
        ("Length", f"{clock(facts.frames)}, {facts.frames} frames at 25 a second"),
        ("The file itself", f"{facts.rate:.4g} pictures a second"),
        ("Picture", f"{facts.width} x {facts.height} pixels"),
        ("Face", face),
        ("Used", f"{judged.usable.sum() / FPS:.1f} s in {len(judged.segments)} uncut parts"),
        ("Lips and sound", _sync(judged)),
    ]


def _sync(judged: Judged) -> str:
    offset = judged.offset
    if np.isnan(offset.frames):
        return "could not be compared"
    side = "before" if offset.frames > 0 else "after"
    apart = f"the sound comes {abs(offset.frames):.1f} frames {side} the lips, confidence {offset.confidence:.2f}"
    if not offset.sure:
        return f"{apart}: too low to act on, nothing was moved"
    return f"{apart}; " + (f"it was moved by {judged.move} frames" if judged.move else "nothing had to be moved")


def _row(problem: Problem) -> str:
    used = '<td class="out">left out</td>' if problem.left_out else '<td class="kept">used</td>'
    return f"<tr><td>{problem.when}</td><td>{escape(problem.kind)}</td><td>{escape(problem.detail)}</td>{used}</tr>"


def _bar(first: int, stop: int) -> str:
    return f'<rect x="{first}" width="{stop - first}" height="10" fill="#3ca05a"/>'


def _used(judged: Judged) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], judged.usable, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


# --- the sheet ------------------------------------------------------------------------------------------------------
def contact_sheet(template: Path, judged: Judged) -> UInt8Array:
    """[H, W, 3] BGR: frames that are used and frames with problems, by time, each with its time and name."""
    chosen = _chosen(judged)
    tiles = []
    with VideoReader(template) as film:
        for frame in sorted(chosen):
            picture = next(film.read(frame, frame + 1))
            tiles.append(_tile(picture, Rect(*judged.rects[frame].tolist()), frame, chosen[frame]))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[k : k + _COLUMNS]) for k in range(0, len(tiles), _COLUMNS)]
    return np.asarray(np.vstack(rows), np.uint8)


def _chosen(judged: Judged) -> dict[int, str]:
    """Frames for the sheet and the problem each shows, "" for a used one."""
    usable = np.flatnonzero(judged.usable)
    places = np.linspace(0, len(usable) - 1, min(USED_PICTURES, len(usable))).round().astype(int)
    chosen = {int(usable[place]): "" for place in places}
    visible = [p for p in judged.problems if p.kind not in _UNSEEN]
    for problem in _spread(visible):
        middle = problem.start if problem.kind is Kind.CUT else (problem.start + problem.stop) // 2
        chosen[middle] = str(problem.kind)
    return chosen or {0: ""}


#: What no picture shows.
_UNSEEN = {Kind.NO_SOUND, Kind.MUSIC, Kind.OTHER_VOICE, Kind.CLIPPED, Kind.APART, Kind.SHORT}


def _spread(problems: Sequence[Problem]) -> list[Problem]:
    """At most ``PROBLEM_PICTURES``: the longest of each kind first, then the next."""
    turns: list[tuple[int, Problem]] = []
    for kind in dict.fromkeys(p.kind for p in problems):
        longest = sorted((p for p in problems if p.kind is kind), key=lambda p: (p.start - p.stop, p.start))
        turns += enumerate(longest)
    turns.sort(key=lambda turn: turn[0])
    return [problem for _, problem in turns[:PROBLEM_PICTURES]]


def _tile(picture: UInt8Array, rect: Rect, frame: int, problem: str) -> UInt8Array:
    """A small picture with its rect, a coloured frame, and a caption above."""
    height, width = picture.shape[:2]
    scale = _TILE_WIDTH / width
    small = cv2.resize(picture, (_TILE_WIDTH, max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    colour = _RED if problem else _GREEN
    if rect.usable:
        corners = [round(value * scale) for value in (rect.x1, rect.y1, rect.x2, rect.y2)]
        cv2.rectangle(small, (corners[0], corners[1]), (corners[2], corners[3]), _GREEN, 1)
    cv2.rectangle(small, (0, 0), (small.shape[1] - 1, small.shape[0] - 1), colour, 3)
    caption = np.full((_CAPTION, _TILE_WIDTH, 3), _GREY, np.uint8)
    text = f"{clock(frame)}  {problem or 'used'}"
    cv2.putText(caption, text, (6, _CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return np.asarray(np.vstack([caption, small]), np.uint8)
