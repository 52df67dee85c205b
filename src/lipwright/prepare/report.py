"""The film report: a page that somebody who never trained a network understands."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np

from lipwright.contract import FPS, ROI_SIZE
from lipwright.prepare.judge import Judged
from lipwright.prepare.offset import CONFIDENT
from lipwright.prepare.problems import ADVICE, LITTLE, SHORTEST, Kind, Problem, clock, stretches
from lipwright.prepare.sheet import contact_sheet

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Film report: {name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .35rem .6rem; vertical-align: top; border-bottom: 1px solid #ddd }}
.bar {{ display: block; width: 100%; height: 28px; border-radius: 4px }}
.ends {{ display: flex; justify-content: space-between; color: #666; font-size: .85rem }}
.verdict {{ font-size: 1.25rem }} img {{ width: 100% }} .out {{ color: #b00020 }} .kept {{ color: #666 }}
.key {{ display: inline-block; width: .8em; height: .8em; border-radius: 2px }}
</style></head><body>
<h1>Film report: {name}</h1>
<p class="verdict">{verdict}</p>
<svg class="bar" viewBox="0 0 {frames} 10" preserveAspectRatio="none" role="img" aria-label="used parts of the film">
<rect width="{frames}" height="10" fill="#dc3c3c"/>{bars}</svg>
<div class="ends"><span>0:00.0</span><span>{length}</span></div>
<p>Your film from begin to end. <span class="key" style="background:#3ca05a"></span> Used: learnt from, and gets a new
mouth. <span class="key" style="background:#dc3c3c"></span> Left out: stays as it was filmed, and nothing is learnt from
it. <span class="key" style="background:#222;width:.2em"></span> A cut: the avatar does not walk across it.</p>
<h2>What was found</h2>{found}
<h2>How to film it better</h2>{advice}
<h2>Pictures</h2><p>Green: used; the square is the part that gets the new mouth. Orange: used, though something is not
as it should be. Red: left out. What it is stands above the picture.</p>
<img alt="contact sheet" src="data:image/jpeg;base64,{sheet}">
<h2>The film in numbers</h2><table>{facts}</table>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """What the page says of the film itself."""

    name: str
    """The film's file name."""
    width: int
    """Of its pictures, upright, in pixels."""
    height: int
    """The same."""
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


def _page(facts: FilmFacts, judged: Judged, sheet: str) -> str:
    rows = "".join(_row(problem) for problem in judged.problems)
    table = f"<table><tr><th>When</th><th>What</th><th>Details</th><th>Used?</th></tr>{rows}</table>"
    advised = "".join(f"<li><b>{escape(what)}:</b> {escape(how)}</li>" for what, how in advice(judged).items())
    return _PAGE.format(
        name=escape(facts.name),
        verdict=escape(verdict(judged)),
        frames=facts.frames,
        length=clock(facts.frames),
        bars="".join(map(_used_part, stretches(judged.usable))) + "".join(map(_cut, judged.problems)),
        facts="".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in _facts(facts, judged)),
        found=table if judged.problems else "<p>Nothing to complain about.</p>",
        advice=f"<ul>{advised}</ul>" if advised else "<p>Film the next one just like this.</p>",
        sheet=sheet,
    )


def verdict(judged: Judged) -> str:
    """The whole report in a sentence or two."""
    usable, whole = int(judged.usable.sum()), len(judged.rects)
    kinds = {problem.kind for problem in judged.problems}
    if not usable:
        return "Nothing of this film can be used: no face was seen well enough. See below what to change."
    of = "All" if usable == whole else f"{usable / FPS:.0f} of"
    used = f"{of} {whole / FPS:.0f} seconds can be used."
    if any(problem.kind is Kind.NO_SOUND and problem.start == 0 for problem in judged.problems):
        return f"{used} It has no speech that could be learnt from: give the sound with --audio."
    if usable < SHORTEST * FPS:
        return f"{used} That is too short: {SHORTEST:.0f} seconds are the least, two minutes are good."
    if usable < LITTLE * FPS:
        return f"{used} That will do for a first try; two to five minutes make a far better avatar."
    return f"{used} " + ("See below what would make it better." if kinds else "It is a good film for an avatar.")


def advice(judged: Judged) -> dict[str, str]:
    """What to do the next time, by what it is about; empty where nothing asks for it."""
    found = {str(kind): ADVICE[kind] for kind in dict.fromkeys(problem.kind for problem in judged.problems)}
    if 0 < judged.usable.sum() < LITTLE * FPS:
        found.setdefault(str(Kind.SHORT), ADVICE[Kind.SHORT])
    if judged.face_width < ROI_SIZE:
        found.setdefault(str(Kind.SMALL), ADVICE[Kind.SMALL])
    return found


def _facts(facts: FilmFacts, judged: Judged) -> list[tuple[str, str]]:
    face = f"{judged.face_width:.0f} pixels wide; {ROI_SIZE} or more are best"
    parts = f"{len(judged.segments)} uncut parts" if len(judged.segments) > 1 else "one uncut part"
    return [
        ("Length", f"{clock(facts.frames)} ({facts.frames} pictures at {FPS} a second)"),
        ("Used", f"{judged.usable.sum() / FPS:.1f} s in {parts}"),
        ("Picture", f"{facts.width} x {facts.height} pixels, {facts.rate:.4g} a second in the file"),
        ("Face", "none" if np.isnan(judged.face_width) else face),
        ("Lips and sound", _sync(judged)),
    ]


def _sync(judged: Judged) -> str:
    """Whether the sound was early or late, and what was done about it."""
    offset = judged.offset
    if np.isnan(offset.frames):
        return "could not be compared"
    side = "before" if offset.frames > 0 else "after"
    apart = f"the sound comes {abs(offset.frames) / FPS:.2f} s {side} the lips"
    sure = f"confidence {offset.confidence:.2f}, {CONFIDENT} is needed"
    if not offset.sure:
        return f"no clear answer ({apart}, perhaps; {sure}): nothing was moved"
    if judged.move:
        return f"{apart} ({sure}): it was moved to them, by {abs(judged.move)} pictures"
    return f"together: {apart} ({sure}), less than one picture lasts"


def _row(problem: Problem) -> str:
    used = '<td class="out">left out</td>' if problem.left_out else '<td class="kept">used</td>'
    return f"<tr><td>{problem.when}</td><td>{escape(problem.kind)}</td><td>{escape(problem.detail)}</td>{used}</tr>"


def _used_part(part: tuple[int, int]) -> str:
    first, stop = part
    return f'<rect x="{first}" width="{stop - first}" height="10" fill="#3ca05a"/>'


def _cut(problem: Problem) -> str:
    """A line in the bar where the film is cut; nothing for other problems."""
    line = '<line x1="{0}" x2="{0}" y1="0" y2="10" stroke="#222" stroke-width="3" vector-effect="non-scaling-stroke"/>'
    return line.format(problem.start) if problem.kind is Kind.CUT else ""
