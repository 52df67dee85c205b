"""What a bench found, as ``bench.json``, as tables for the terminal and for a Markdown page, and as charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lipwright.bench.chart import Bars, Lines, Panel, Series, draw
from lipwright.bench.measures import STAGES, Failed, Measured
from lipwright.contract import FPS
from lipwright.errors import MediaError
from lipwright.trial import Stamp, as_json, plain, write_whole

DATA, PAGE, CHART = "bench.json", "bench.md", "bench"


@dataclass(frozen=True)
class Curve:
    """How cost grows with one thing."""

    name: str
    """jobs, seconds of sound or height of the picture."""
    points: list[tuple[str, float, Measured | Failed]]
    """What it is called, its number, and what was measured."""


@dataclass(frozen=True)
class Table:
    """Cells of text under a title."""

    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bench:
    """Everything that was measured."""

    name: str
    """The avatar, its size and width."""
    stamp: Stamp
    load: float | None
    """Processes that wanted a processor before the start (Unix' load over the last minute); None: unknown."""
    results: list[Measured | Failed] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    planned: int = 0
    """Measurements that were to be made; with fewer than that it was stopped."""

    def add_point(self, curve: str, name: str, value: float, found: Measured | Failed) -> None:
        """One more point, at the end of the curve of this name."""
        if not self.curves or self.curves[-1].name != curve:
            self.curves.append(Curve(curve, []))
        self.curves[-1].points.append((name, value, found))

    @property
    def everything(self) -> list[Measured | Failed]:
        """All that was measured, in that order."""
        return [*self.results, *(m for curve in self.curves for _, _, m in curve.points)]

    @property
    def baseline(self) -> Measured | None:
        """The family's pipeline: the faster one where several ran."""
        found = self.measured("baseline")
        return max(found, key=lambda m: m.fps) if found else None

    def measured(self, kind: str) -> list[Measured]:
        """The results of one kind."""
        return [m for m in self.results if isinstance(m, Measured) and m.kind == kind]

    def remarks(self) -> list[str]:
        """What a reader must know beside the figures."""
        failed = [f"{m.label} ({m.kind}): {m.reason}" for m in self.everything if isinstance(m, Failed)]
        warm = {m.warm_up for m in self.results if isinstance(m, Measured) and m.kind != "baseline"}
        told = [f"warm-up: {', '.join(map(str, sorted(warm)))} frames, not counted"] if warm else []
        if self.load is not None and self.load > BUSY * self.stamp.cores:
            told.append(f"the machine was busy before the start (load {self.load:.1f} on {self.stamp.cores} cores)")
        if len(self.everything) < self.planned:
            told.append(f"stopped after {len(self.everything)} of {self.planned} measurements")
        return told + failed


#: Load, as a share of the cores, beyond which a machine does not count as idle.
BUSY = 0.3


def tables(bench: Bench) -> list[Table]:
    """All figures."""
    found = [_inference(bench), _whole(bench), _stages(bench), *map(_growth, bench.curves)]
    return [_without_empty_columns(table) for table in found if table.rows]


def _without_empty_columns(table: Table) -> Table:
    """Without a card there is no column about it."""
    kept = [i for i in range(len(table.head)) if any(row[i] for row in table.rows)]
    return Table(table.title, [table.head[i] for i in kept], [[row[i] for i in kept] for row in table.rows])


def _inference(bench: Bench) -> Table:
    head = ["inference alone", "cold load", "first frame", "median", "p95", "p99", "fps", "memory", "card"]
    rows = [
        [m.label, _s(m.cold_load_s), _s(m.first_frame_s), *_pace(m), *_memory(m)] for m in bench.measured("inference")
    ]
    return Table("The generator alone, one frame a call", head, rows)


def _whole(bench: Bench) -> Table:
    head = ["end to end", "first frame", "median", "p95", "p99", "fps", "memory", "card", "against the baseline"]
    rows = [
        [m.label, _s(m.first_frame_s), *_pace(m), *_memory(m), _ratio(m, bench.baseline)]
        for m in [*bench.measured("render"), *bench.measured("baseline")]
    ]
    return Table(f"Sound file to film, {bench.name}", head, rows)


def _stages(bench: Bench) -> Table:
    found = [m for m in [*bench.measured("render"), *bench.measured("baseline")] if m.stages_ms]
    rows = [[m.label, *(f"{m.stages_ms.get(stage, 0):.1f}" for stage in STAGES), f"{_sum(m):.1f}"] for m in found]
    return Table("Milliseconds of each stage alone, one after the other", ["ms a frame", *STAGES, "sum"], rows)


def _growth(curve: Curve) -> Table:
    head = [curve.name, "fps", "p99", "memory", "card", "slowest job"]
    rows = [
        [name, f"{m.fps:.1f}", f"{m.p99_ms:.0f} ms", *_memory(m), "" if m.fairness is None else f"{m.fairness:.0%}"]
        for name, _, m in curve.points
        if isinstance(m, Measured)
    ]
    return Table(f"Growth with the {curve.name}", head, rows)


def _sum(measured: Measured) -> float:
    return sum(measured.stages_ms.values())


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"


def _pace(m: Measured) -> list[str]:
    return [f"{m.median_ms:.1f} ms", f"{m.p95_ms:.1f} ms", f"{m.p99_ms:.1f} ms", f"{m.fps:.1f}"]


def _memory(m: Measured) -> list[str]:
    return ["" if value is None else f"{value:.0f} MB" for value in (m.memory_mb, m.card_mb)]


def _ratio(m: Measured, baseline: Measured | None) -> str:
    return "" if baseline is None or m.size else f"{m.fps / baseline.fps:.2f} x"


def markdown(bench: Bench) -> str:
    """The tables as a page that can be pasted as it is."""
    parts = [f"{line}  " for line in bench.stamp.lines()]
    parts += [f"- {remark}" for remark in bench.remarks()]
    for table in tables(bench):
        lines = [table.head, ["---"] + ["---:"] * (len(table.head) - 1), *table.rows]
        parts += ["", f"**{table.title}**", "", *(f"| {' | '.join(row)} |" for row in lines)]
    return "\n".join(parts) + "\n"


def write_bench(bench: Bench, folder: Path) -> list[Path]:
    """Write ``bench.json``, ``bench.md``, ``bench.svg`` and ``bench.png`` into ``folder``; their paths.

    Raises:
        MediaError: the folder cannot be written.
    """
    svg, png = draw(f"lipwright bench: {bench.name}", panels(bench), bench.stamp.lines()[:2])
    contents = {
        DATA: as_json(as_data(bench)),
        PAGE: markdown(bench).encode(),
        f"{CHART}.svg": svg.encode(),
        f"{CHART}.png": png,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder} cannot be made ({error.strerror or error}): choose another folder") from error
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def as_data(bench: Bench) -> object:
    """Plain values for JSON."""
    baseline = bench.baseline
    data = {
        "name": bench.name,
        "stamp": asdict(bench.stamp),
        "load": bench.load,
        "remarks": bench.remarks(),
        "results": [asdict(result) for result in bench.results],
        "times_the_baseline": {}
        if baseline is None
        else {m.label: m.fps / baseline.fps for m in bench.measured("render") if not m.size},
        "curves": [
            {"name": curve.name, "points": [{"name": n, "value": v, **asdict(m)} for n, v, m in curve.points]}
            for curve in bench.curves
        ],
    }
    return plain(data)


# --- charts ---------------------------------------------------------------------------------------------------------


def panels(bench: Bench) -> list[Panel]:
    """Speed end to end, where the time goes, and how cost grows."""
    whole = [*bench.measured("render"), *bench.measured("baseline")]
    found: list[Panel] = []
    if whole:
        speed = [Series("fps", [m.fps for m in whole])]
        found.append(Bars("frames a second, end to end", [m.label for m in whole], speed, mark=float(FPS)))
    staged = [m for m in whole if m.stages_ms]
    if staged:
        parts = [Series(stage, [m.stages_ms.get(stage, 0.0) for m in staged]) for stage in STAGES]
        found.append(Bars("milliseconds a frame, stage by stage", [m.label for m in staged], parts))
    alone = bench.measured("inference")
    if alone:
        times = [Series("median", [m.median_ms for m in alone])]
        found.append(Bars("milliseconds of the generator alone", [m.label for m in alone], times))
    for curve in bench.curves:
        found += _curves(curve)
    return found


def _curves(curve: Curve) -> Sequence[Panel]:
    points = [(name, m) for name, _, m in curve.points if isinstance(m, Measured)]
    if not points:
        return []
    names = [name for name, _ in points]
    return [
        Lines(f"frames a second over {curve.name}", names, [m.fps for _, m in points]),
        Lines(f"memory in MB over {curve.name}", names, [m.memory_mb or 0.0 for _, m in points]),
    ]
