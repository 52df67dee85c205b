"""The training's part of the report: a verdict in plain words, figures beside their baselines, curves, pictures."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from lipwright.contract import FPS
from lipwright.prepare.problems import LITTLE
from lipwright.quality import FREE, REST_GAP, REST_STEP, SURE

Figures = dict[str, float | None]

#: Where the training's part stands in the page.
_BEGIN, _END = "<!-- training -->", "<!-- /training -->"
#: Below this the lips hardly follow the sound, and above that they follow well.
FOLLOWS, FOLLOWS_WELL = 0.35, 0.65
#: A mouth with less than this share of the true detail is soft.
SOFT = 0.6
#: Lips that move less than this share of what they should mumble, and of less than that nobody sees that they speak.
MUMBLES, HARDLY_MOVES = 0.6, 0.3
#: Lips that go by this much with what they did in the film, while somebody else speaks, are copied and not spoken.
COPIES = 0.5
#: Steps of colour above this, in levels of 255, can be seen at the border.
SEEN_BORDER = 2.0

_COLUMNS = ("own sound", "nearest pose", "mean picture", "plain L1", "truth")
_COLUMN_NAMES = {
    "own sound": "this avatar",
    "nearest pose": "another moment pasted in",
    "mean picture": "the mean picture",
    "plain L1": "plain training",
    "truth": "the film itself",
}
#: Name, what it means, what is best.
_ROWS = {
    "psnr": ("Likeness of the mouth, dB", "how near each pixel comes to the true one; +1 can be seen", "higher"),
    "ssim": ("Structure of the mouth", "shapes and edges, 0 to 1", "1"),
    "sharpness": ("Sharpness of the mouth", "fine detail compared with the truth; below 0.6 looks soft", "1"),
    "edges": ("Edges in their place", "share of the true edges; specks are sharp too, but add nothing here", "1"),
    "lip_gap_r": (
        "Lips follow the sound",
        f"-1 to 1; 0: no connection; it lies between these by {SURE:.0%} of the chances",
        "1",
    ),
    "lip_gap_lag": ("Lips late, frames", "one frame is 40 ms", "0"),
    "lip_gap_amplitude": ("How far the lips move", "compared with the truth", "1"),
    "lmd": ("Lips beside their place", "as a share of the face's width; 0.01 is good", "0"),
    "closed_recall": ("Lips closed when they should be", "as a share of the true closures", "1"),
    "closed_precision": ("Closed only then", "as a share of the closures drawn", "1"),
    "seam_soft": ("Border of the new region", "step in colour that was added, of 255; above 2 can be seen", "0"),
    "seam_exact": ("The same, pasted without blending", "for comparison (--border exact)", "0"),
}
#: Whole frames, and a share of which a hundredth is good.
_DECIMALS = {"lip_gap_lag": 0, "lmd": 3}
_COLOURS = ("#1f6fb4", "#3ca05a", "#c8641e", "#7a4fa3", "#808080")

_KINDER = ", so all of this is the kinder side of honest"
_AFTERWARDS = "; all of this was measured behind them, on pictures by which no weights were chosen"
_SECTION = """{begin}
<h2>How well it learnt to speak</h2>
<p class="verdict">{verdict}</p>
<h3>What it makes of sound it has never heard</h3>
<p>The last {held:.1f} seconds of the film were never shown while it learnt. Above: what the camera saw. Below: what the
avatar drew for the same sound, from another picture of the person.</p>
<img alt="true pictures above, drawn ones below" src="data:image/jpeg;base64,{sheet}">
<h3>Measured there</h3>
<p>The best of several states of the network was chosen by the first {chosen:.1f} of these seconds{kinder}.
"The film itself" is the true mouth cut out and pasted in again: no figure of the lips can be read better than that.</p>
<table><tr><th>What</th>{heads}<th>best</th><th>meaning</th></tr>{rows}</table>
{others}
<h3>How it learnt</h3>
{curves}
<p>{facts}</p>
<h3>What would make it better</h3><ul>{advice}</ul>
{end}
"""


# --- words ----------------------------------------------------------------------------------------------------------
def training_verdict(figures: dict[str, Figures], training: dict[str, Any]) -> str:
    """How good the avatar is, in a few sentences for somebody who never trained a network."""
    own = figures["own sound"]
    sentences = [_lips_sentence(own, _best(figures, "lip_gap_r"))]
    if _less(own["psnr"], _best(figures, "psnr")):
        sentences.append("The mouth is less like the true one than what costs nothing: it has learnt too little.")
    if _less(own["sharpness"], SOFT):
        sentences.append("The mouth is softer than the rest of the face.")
    if _less(own.get("lip_gap_amplitude"), HARDLY_MOVES):
        sentences.append("The lips hardly move: this is not ready to be shown.")
    elif _less(own.get("lip_gap_amplitude"), MUMBLES):
        sentences.append("The lips move less than they should.")
    if _less(COPIES, figures["other sound"]["template_lips_r"]):
        sentences.append(
            "Given other words they still do what they did in the film: it has learnt too little to be shown."
        )
    if not training["expert"]["used"]:
        sentences.append("The film was too short or too varied to teach a judge of lip sync, so none watched.")
    return " ".join(sentences)


def _best(figures: dict[str, Figures], key: str) -> float | None:
    """The best of what costs nothing."""
    known = [value for name in FREE if (value := figures[name].get(key)) is not None]
    return max(known, default=None)


def _lips_sentence(own: Figures, free: float | None) -> str:
    """Whether the lips follow, by their correlation with the true ones and that of the best of what costs nothing."""
    r = own["lip_gap_r"]
    if r is None:
        return "Whether the lips follow the sound could not be measured: no face was found in what was drawn."
    rate = f"r {_correlation(own)}"
    if _less(own.get("lip_gap_r_low"), free) and _less(free, own.get("lip_gap_r_high")):
        at_most = ": this is not ready to be shown" if _less(own.get("lip_gap_r_high"), FOLLOWS) else ""
        return (
            f"Too little was kept back to tell whether the lips follow the sound: {rate}, and pictures that never "
            f"heard it have r {free:.2f}{at_most}."
        )
    if _less(r, free):
        return f"The lips follow the sound no better ({rate}) than pictures that never heard it (r {free:.2f})."
    if r < FOLLOWS:
        return f"The lips hardly follow the sound ({rate}): this is not ready to be shown."
    if r < FOLLOWS_WELL:
        return f"The lips follow the sound roughly ({rate})."
    return f"The lips follow the sound well ({rate})."


def _correlation(column: Figures) -> str:
    """r, and between what it lies where that was measured."""
    low, high = column.get("lip_gap_r_low"), column.get("lip_gap_r_high")
    between = "" if low is None or high is None else f", between {low:.2f} and {high:.2f}"
    return _written(column.get("lip_gap_r")) + between


def _less(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


def advice(figures: dict[str, Figures], training: dict[str, Any]) -> list[str]:
    """What to do, most useful first."""
    own, silence = figures["own sound"], figures["silence"]
    seconds = training["training_frames"] / FPS
    found = []
    if seconds < LITTLE:
        found.append(
            f"It learnt from {seconds:.0f} seconds. Two to five minutes make the largest difference: every sound "
            "should come in many words."
        )
    if training["device"] == "cpu" or training["minutes"] < 30 or _less(own["sharpness"], SOFT):
        found.append(
            f"It saw {training['pictures']} pictures in {training['seconds'] / 60:.0f} minutes. A good avatar takes "
            "50,000 or more: go on with `lipwright train AVATAR --base AVATAR --minutes N`, on a graphics card if "
            "there is one (docs/create.md tells how)."
        )
    if _less(own["lip_gap_r"], FOLLOWS_WELL):
        found.append("If longer training does not help: a quieter room, and the face straight to the camera.")
    if _less(SEEN_BORDER, own["seam_soft"]):
        found.append("A border may be seen: keep hands, collar and hair away from mouth and chin while filming.")
    if _less(REST_GAP, silence["gap_99"]):
        found.append("The lips do not close in pauses: begin and end the film with closed lips, and pause in between.")
    return found or ["Nothing in the figures asks for it. Look at a film of it speaking before you show it."]


# --- the page -------------------------------------------------------------------------------------------------------
def with_training(
    page: str | None, name: str, figures: dict[str, Figures], training: dict[str, Any], sheet: Path
) -> str:
    """The film report with the training's part in it, instead of an older one; a page of its own if there is none."""
    if page is None:
        page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}</title><body></body></html>'
    page = re.sub(f"{_BEGIN}.*?{_END}\n?", "", page, flags=re.DOTALL)
    section = _section(figures, training, sheet)
    return page.replace("</body>", f"{section}</body>")


def _section(figures: dict[str, Figures], training: dict[str, Any], sheet: Path) -> str:
    columns = _columns(figures, training)
    shown = [name for name in _COLUMNS if name in columns]
    held = training["held_out"]
    return _SECTION.format(
        begin=_BEGIN,
        end=_END,
        verdict=escape(training_verdict(figures, training)),
        held=held["frames"] / FPS,
        chosen=held.get("checked", held["frames"]) / FPS,  # a training of an older version does not say
        kinder=_AFTERWARDS if held.get("measured", held["frames"]) < held["frames"] else _KINDER,
        sheet=base64.b64encode(sheet.read_bytes()).decode("ascii"),
        heads="".join(f"<th>{escape(_COLUMN_NAMES[name])}</th>" for name in shown),
        rows="".join(_row(key, [columns[name] for name in shown]) for key in _ROWS),
        others=_others(figures, training),
        curves=_curves(training["phases"]),
        facts=escape(_facts(training)),
        advice="".join(f"<li>{escape(sentence)}</li>" for sentence in advice(figures, training)),
    )


def _columns(figures: dict[str, Figures], training: dict[str, Any]) -> dict[str, Figures]:
    """Figures by column; where the plainly trained weights are not here, only what was scored where they were.

    Its lips were read in another way there, which is not to be compared with the face mesh.
    """
    plain = training["scores"].get("plain L1")
    if plain is None or "plain L1" in figures:
        return figures
    return figures | {"plain L1": {key: value for key, value in plain.items() if key != "lip_gap_r"}}


def _row(key: str, columns: Sequence[Figures]) -> str:
    what, meaning, best = _ROWS[key]
    cells = "".join(f"<td>{_cell(key, column)}</td>" for column in columns)
    return f"<tr><td>{escape(what)}</td>{cells}<td>{best}</td><td>{escape(meaning)}</td></tr>"


def _cell(key: str, column: Figures) -> str:
    value = column.get(key)
    if key in _DECIMALS and value is not None:
        return f"{value:.{_DECIMALS[key]}f}"
    return _correlation(column) if key == "lip_gap_r" else _written(value)


def _written(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}%}"


#: What became of an ear that did not learn by listening.
_UNTAUGHT = {
    "given back": "What its ear learnt from this film by listening helped nowhere else and was taken back, so it "
    "learnt with the pictures alone: a longer film, or a clearer sound, would teach it this voice.",
    "as it came": "Its ear learnt with the pictures alone: the end of a film this short cannot tell whether listening "
    "helps. A film of a minute or more would teach it this voice.",
}


def _others(figures: dict[str, Figures], training: dict[str, Any]) -> str:
    """Foreign sound, silence, another voice, and the judge of lip sync, as sentences."""
    other, silence, expert = figures["other sound"], figures["silence"], training["expert"]
    voice = training["scores"].get("another voice")
    sentences = [
        "Somebody else's sentence over two parts of the film, slow changes of posture taken out: "
        f"r {_written(other['same_lips_r'])} between the lips of both (best 1: the sound alone moves them), at most "
        f"r {_written(other['template_lips_r'])} with what they did in the film (best 0).",
        *_closures(other),
        f"While nothing is said the lips open by {_percent(silence['gap_99'])} of the face's height at most (limit "
        f"{_percent(REST_GAP, 0)}), move by {_percent(silence['step_99'])} from frame to frame at most (limit "
        f"{_percent(REST_STEP)}) and tremble by "
        f"{_percent(silence['jitter'], 2)} (root mean square of these steps).",
    ]
    if voice:
        sentences.append(
            f"The same sentences in another voice, never practised: {_written(voice['psnr'])} dB, lips follow by r "
            f"{_written(voice['lip_gap_r'])}."
        )
    if (ear := training.get("ear")) in _UNTAUGHT:  # a training of an older version does not say
        sentences.append(_UNTAUGHT[ear])
    if expert["accuracy"] is None:
        sentences.append("A judge of lip sync could not be taught: there was too little to compare.")
    else:
        used = "it was used" if expert["used"] else f"below {expert['needed']:.0%} it is not used"
        sentences.append(
            f"The judge of lip sync is right in {expert['accuracy']:.0%} of the comparisons in the "
            f"{training['held_out']['frames'] / FPS:.1f} seconds put aside: {used}."
        )
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _closures(other: Figures) -> list[str]:
    """Whether the lips close on p, b and m; an avatar of an older version does not say."""
    if (recall := other.get("closed_recall")) is None:
        return []
    closed = f"Of the sounds p, b and m in it the lips closed on {_percent(recall, 0)} (best 100%)"
    if (precision := other.get("closed_precision")) is None:
        return [f"{closed}."]
    told = f"of the moments at which they closed while something was said {_percent(precision, 0)} were such a sound"
    return [f"{closed}; {told}."]


def _facts(training: dict[str, Any]) -> str:
    began_from = training["began_from"]
    base = {
        "none": "It began from nothing.",
        "ear": f"It began with the ear of {began_from}.",
        "whole generator": f"It began from {began_from}, which can speak already.",
    }[training["base"]]
    references = sorted(set(training["references"]))
    late = [phase["name"] for phase in training["phases"] if phase.get("ended") == "time"]
    clock = f"Ended by the clock before all steps were done: {', '.join(late)}. " if late else ""
    return (
        f"{training['pictures']} pictures in {training['seconds'] / 60:.1f} minutes on {training['device']}, generator "
        f"{training['width']}. {base} {clock}References while it was measured: template frames "
        f"{', '.join(map(str, references[:12]))}{' and others' if len(references) > 12 else ''}, never the one scored."
    )


# --- curves ---------------------------------------------------------------------------------------------------------
def _curves(phases: Sequence[dict[str, Any]]) -> str:
    """The errors while it learnt, each phase by its own scale, and the held-out scores."""
    errors = [(p["name"], p["curve"]) for p in phases if len(p["curve"]) > 1]
    scores = [(p["name"], p["scores"]) for p in phases if len(p["scores"]) > 1]
    return (
        "<p>The error should fall; each line is one lesson, from its worst to its best.</p>"
        + _chart(errors, "error while learning")
        + ("<p>The score on what it never saw should rise.</p>" + _chart(scores, "held-out score") if scores else "")
    )


def _chart(lines: Sequence[tuple[str, Sequence[Sequence[float]]]], label: str) -> str:
    """Inline SVG: every line from its first to its last step, each by its own scale, with a legend."""
    drawn, names = [], []
    for number, (name, points) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        low, high = min(y for _, y in points), max(y for _, y in points)
        first, last = points[0][0], points[-1][0]
        path = " ".join(
            f"{10 + 580 * (x - first) / max(last - first, 1):.1f},{10 + 120 * (high - y) / max(high - low, 1e-12):.1f}"
            for x, y in points
        )
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        text = f"{escape(name)}: {points[0][1]:.3f} to {points[-1][1]:.3f}"
        names.append(f'<text x="{10 + 145 * number}" y="152" font-size="10" fill="{colour}">{text}</text>')
    return (
        f'<svg viewBox="0 0 600 160" role="img" aria-label="{escape(label)}" style="width:100%">'
        f'<rect x="10" y="10" width="580" height="120" fill="none" stroke="#ddd"/>{"".join(drawn + names)}</svg>'
    )
