"""Charts as SVG and as PNG, from one list of shapes: rectangles, lines and words.

Two small writers instead of a plotting library: those weigh more than all of lipwright's own dependencies together,
and the SVG shall be readable, of the same look everywhere, and small enough for a repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import cv2
import numpy as np

WIDTH, LEFT, RIGHT = 960, 220, 90
ROW, GAP, TITLE, CURVE = 22, 26, 30, 150
#: PNG pixels for each unit of the SVG.
SCALE = 2
INK, FAINT = "#222222", "#888888"
#: Colours that can be told apart by everyone (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
_FONT = cv2.FONT_HERSHEY_SIMPLEX
#: Height of OpenCV's letters at scale 1, and what one is wide on average, in pixels.
_FONT_HEIGHT = 22


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text, its baseline at y."""

    x: float
    y: float
    text: str
    size: float = 12.0
    anchor: str = "start"
    """start, middle or end: what of the text lies at x."""
    colour: str = INK


Shape = Box | Stroke | Words


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each row of a chart."""

    name: str
    values: list[float]


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars; several series are stacked."""

    title: str
    names: list[str]
    series: list[Series]
    mark: float | None = None
    """A value to mark by a line: live speed, for one."""

    @property
    def height(self) -> float:
        return TITLE + ROW * len(self.names) + (ROW if len(self.series) > 1 else 0) + GAP


@dataclass(frozen=True, slots=True)
class Lines:
    """One curve over named places."""

    title: str
    names: list[str]
    values: list[float]

    @property
    def height(self) -> float:
        return TITLE + CURVE + ROW + GAP


Panel = Bars | Lines


def draw(title: str, panels: Sequence[Panel], notes: Sequence[str] = ()) -> tuple[str, bytes]:
    """The panels below each other under ``title`` and small ``notes``, as SVG text and as PNG bytes."""
    shapes: list[Shape] = [Words(20, 30, title, 16)]
    y = 36.0
    for note in notes:
        y += 16
        shapes.append(Words(20, y, note, 11, colour=FAINT))
    y += 14
    for panel in panels:
        shapes += _bars(panel, y) if isinstance(panel, Bars) else _lines(panel, y)
        y += panel.height
    return _svg(shapes, y), _png(shapes, y)


def _bars(panel: Bars, top: float) -> list[Shape]:
    sums = [sum(series.values[row] for series in panel.series) for row in range(len(panel.names))]
    scale = (WIDTH - LEFT - RIGHT) / max(*sums, panel.mark or 0.0, 1e-9)
    shapes: list[Shape] = [Words(20, top + 18, panel.title, 13)]
    for row, name in enumerate(panel.names):
        y, x = top + TITLE + ROW * row, float(LEFT)
        shapes.append(Words(LEFT - 8, y + 14, name, anchor="end"))
        for number, series in enumerate(panel.series):
            width = series.values[row] * scale
            shapes.append(Box(x, y + 2, width, ROW - 5, COLOURS[number % len(COLOURS)]))
            x += width
        shapes.append(Words(x + 6, y + 14, _number(sums[row])))
    bottom = top + TITLE + ROW * len(panel.names)
    if panel.mark is not None:
        x = LEFT + panel.mark * scale
        shapes += [Stroke(x, top + TITLE - 4, x, bottom, INK), Words(x + 3, top + TITLE - 6, _number(panel.mark), 10)]
    return shapes + (_legend(panel.series, bottom) if len(panel.series) > 1 else [])


def _legend(series: Sequence[Series], y: float) -> list[Shape]:
    shapes: list[Shape] = []
    for number, one in enumerate(series):
        x = LEFT + 105.0 * number
        shapes += [Box(x, y + 6, 10, 10, COLOURS[number % len(COLOURS)]), Words(x + 15, y + 15, one.name, 11)]
    return shapes


def _lines(panel: Lines, top: float) -> list[Shape]:
    highest = max(*panel.values, 1e-9)
    bottom, right = top + TITLE + CURVE, WIDTH - RIGHT
    step = (right - LEFT) / max(len(panel.values) - 1, 1)
    points = [(LEFT + step * i, bottom - (CURVE - 20) * value / highest) for i, value in enumerate(panel.values)]
    shapes: list[Shape] = [Words(20, top + 18, panel.title, 13), Stroke(LEFT, bottom, right, bottom, FAINT)]
    shapes += [Stroke(*a, *b, COLOURS[0], 2) for a, b in pairwise(points)]
    for (x, y), name, value in zip(points, panel.names, panel.values, strict=True):
        shapes += [Box(x - 3, y - 3, 6, 6, COLOURS[0]), Words(x, y - 8, _number(value), 11, "middle")]
        shapes.append(Words(x, bottom + 16, name, 11, "middle"))
    return shapes


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


# --- writers --------------------------------------------------------------------------------------------------------


def _svg(shapes: Sequence[Shape], height: float) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif">'
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>'
    return "\n".join([head, ground, *map(_element, shapes), "</svg>\n"])


def _element(shape: Shape) -> str:
    if isinstance(shape, Box):
        size = f'width="{shape.width:.1f}" height="{shape.height:.1f}"'
        return f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" {size} fill="{shape.colour}"/>'
    if isinstance(shape, Stroke):
        ends = f'x1="{shape.x1:.1f}" y1="{shape.y1:.1f}" x2="{shape.x2:.1f}" y2="{shape.y2:.1f}"'
        return f'<line {ends} stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
    place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"'
    return f'<text {place} fill="{shape.colour}">{escape(shape.text)}</text>'


def _png(shapes: Sequence[Shape], height: float) -> bytes:
    canvas = np.full((round(height * SCALE), WIDTH * SCALE, 3), 255, np.uint8)
    for shape in shapes:
        _paint(canvas, shape)
    return cv2.imencode(".png", canvas)[1].tobytes()


def _paint(canvas: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], shape: Shape) -> None:
    colour = _bgr(shape.colour)
    if isinstance(shape, Box):
        corners = _pixels(shape.x, shape.y), _pixels(shape.x + shape.width, shape.y + shape.height)
        cv2.rectangle(canvas, *corners, colour, -1)
    elif isinstance(shape, Stroke):
        ends = _pixels(shape.x1, shape.y1), _pixels(shape.x2, shape.y2)
        cv2.line(canvas, *ends, colour, round(shape.width * SCALE), cv2.LINE_AA)
    else:
        size = 0.72 * shape.size * SCALE / _FONT_HEIGHT
        text = shape.text.encode("ascii", "replace").decode()
        (width, _), _ = cv2.getTextSize(text, _FONT, size, 1)
        left = {"start": 0, "middle": width // 2, "end": width}[shape.anchor]
        x, y = _pixels(shape.x, shape.y)
        cv2.putText(canvas, text, (x - left, y), _FONT, size, colour, SCALE // 2, cv2.LINE_AA)


def _pixels(x: float, y: float) -> tuple[int, int]:
    return round(x * SCALE), round(y * SCALE)


def _bgr(colour: str) -> tuple[int, int, int]:
    """``#rrggbb`` as OpenCV wants it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red
