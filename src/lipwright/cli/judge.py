"""Prove and measure: ``check``, ``vectors``, ``bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TextColumn
from rich.table import Table

from lipwright.cli.app import app, open_avatar, print_json, progress_bar
from lipwright.cli.options import AsJson, Debug, Force, QualityName, Verbose
from lipwright.cli.process import stop
from lipwright.contract import Quality

if TYPE_CHECKING:
    from lipwright.bench import Bench, Growth
    from lipwright.check.findings import Finding
    from lipwright.trial import Look, Progress, Way

AvatarName = Annotated[str | None, typer.Argument(help="Path, or NAME of NAME.avatar; else the presenter.")]
Ways = Annotated[
    list[str] | None,
    typer.Option("--runtime", help="RUNTIME/PRECISION, such as openvino/bf16; repeat it. Else all of this machine."),
]
Audio = Annotated[Path | None, typer.Option(help="What is heard; else the sentences of the demo.")]


@app.command()
def check(
    avatar: AvatarName = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the report.")] = Path("check"),
    quality: QualityName = "full",
    runtime: Ways = None,
    audio: Audio = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames compared.")] = 50,
    start: Annotated[int | None, typer.Option(min=0, help="First template frame.")] = None,
    show: Annotated[list[int] | None, typer.Option(help="Template frame on the sheets; repeat it.")] = None,
    film: Annotated[bool, typer.Option("--film", help="Also write the sheets as films side by side.")] = False,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help=".pth or .onnx of this person to score on held-back frames; repeat it.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of `lipwright vectors` with another implementation's output.bin.")
    ] = None,
    limits: Annotated[
        Literal["f32", "reduced"], typer.Option(help="With --against: what the other implementation computes in.")
    ] = "f32",
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Prove an avatar: contract, parity of the runtimes, pictures; exit 1 if a limit is broken."""
    from lipwright.check import Plan, as_data, check_against, write_report
    from lipwright.check import check as check_avatar
    from lipwright.check.limits import F32, REDUCED

    if against is not None:
        report = check_against(against, out, F32 if limits == "f32" else REDUCED)
    else:
        plan = Plan(_ways(runtime), audio, frames, start, tuple(show or ()), film, checkpoint or ())
        opened = open_avatar(avatar).at(quality)
        with progress_bar(TextColumn("{task.description}")) as bar:
            report = check_avatar(opened, out, plan, _follow(bar))
    page = write_report(report, out)
    if as_json:
        print_json(as_data(report))
    else:
        typer.echo("\n".join([*map(_line, report.findings), report.verdict(), f"report: {page}"]))
    if report.broken:
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    marks = {"good": "ok  ", "broken": "BAD ", "unmeasured": "??  ", "note": "    "}
    allowed = f"  ({finding.limit})" if finding.limit else ""
    return f"{marks[finding.verdict]} {finding.section}: {finding.what}: {finding.seen}{allowed}"


def _ways(names: list[str] | None) -> list[Way] | None:
    from lipwright.trial import Way

    return [way for name in names for way in Way.parse(name)] if names else None


def _follow(bar: Bar) -> Look:
    """A listener that shows each step of a long work on ``bar`` and leaves where the user asked to."""
    task = bar.add_task("opening", total=None)

    def look(step: Progress) -> None:
        stop.leave_if_asked()
        bar.update(task, description=step.step, completed=step.done, total=step.total)

    return look


@app.command()
def vectors(
    avatar: AvatarName = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")] = Path("vectors"),
    frames: Annotated[int, typer.Option(min=1, help="How many real frames.")] = 10,
    quality: QualityName = "full",
    audio: Audio = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write real inputs and expected outputs of an avatar's generator, for implementations in other languages."""
    from lipwright.avatar import builtin_sound
    from lipwright.check import write_vectors

    opened = open_avatar(avatar).at(quality)
    with progress_bar(TextColumn("{task.description}")) as bar:
        task = bar.add_task("vectors", total=frames)

        def look(done: int, total: int) -> None:
            stop.leave_if_asked()
            bar.update(task, completed=done, total=total)

        written = write_vectors(opened, audio or builtin_sound(), out, frames, replace=force, look=look)
    if as_json:
        print_json({"output": str(out), **written})
    else:
        typer.echo(f"{out}: {written['frames']} frames of {written['avatar']}, {written['generator']['runtime']}")


@app.command()
def bench(
    avatar: AvatarName = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for bench.json, bench.md and the charts.")] = Path(
        "bench"
    ),
    quality: Annotated[
        Quality | None, typer.Option(help="full or fast alone; else every one that the avatar has.")
    ] = None,
    runtime: Ways = None,
    audio: Audio = None,
    seconds: Annotated[float, typer.Option(min=0.2, help="Of film, end to end and for the baseline.")] = 10.0,
    frames: Annotated[int, typer.Option(min=1, help="Of the generator alone.")] = 100,
    warm_up: Annotated[int, typer.Option(min=0, help="Frames before the measured ones.")] = 10,
    scaling: Annotated[
        str | None,
        typer.Option(
            help="How cost grows, instead (with --runtime: besides): all, or some of jobs,lengths,sizes. All of it is "
            "1 to 8 jobs, 10 s to 10 min, 360p to 4K, and takes about 20 minutes."
        ),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Measure speed and memory here: every runtime alone and end to end, and the usual pipeline beside them."""
    from lipwright.bench import Plan, as_data, write_bench
    from lipwright.bench import bench as measure

    def keep(so_far: Bench) -> None:
        """Written after every measurement: whoever stops it has what is done."""
        write_bench(so_far, out)

    growth = _growth(scaling)
    plan = Plan(_ways(runtime) or ([] if growth else None), audio, seconds, frames, warm_up, quality, growth)
    opened = open_avatar(avatar)
    with progress_bar(TextColumn("{task.description}")) as bar:
        found = measure(opened, plan, _follow(bar), keep)
    written = write_bench(found, out)
    if as_json:
        print_json(as_data(found))
    else:
        _show(found)
        typer.echo("written: " + ", ".join(map(str, written)))


def _growth(parts: str | None) -> tuple[Growth, ...]:
    """``all`` or ``jobs,sizes`` to what is measured."""
    from lipwright.bench import GROWTH

    wanted = {part.strip() for part in (parts or "").split(",")} - {""}
    unknown = wanted - {*GROWTH, "all"}
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose all, or some of {', '.join(GROWTH)}")
    return tuple(part for part in GROWTH if wanted & {part, "all"})


def _show(found: Bench) -> None:
    """The tables of a bench on stdout."""
    from lipwright.bench import tables

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for line in [found.name, *found.stamp.lines(), *found.remarks()]:
        typer.echo(line)
    for table in tables(found):
        shown = Table(title=table.title, title_justify="left")
        for number, name in enumerate(table.head):
            shown.add_column(name, justify="right" if number else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
