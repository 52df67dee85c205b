"""From a film to an avatar: ``prepare``, ``train``, ``create``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lipwright.cli.app import app, open_avatar, print_json, progress_bar
from lipwright.cli.options import AsJson, Debug, Force, PackageOutput, Verbose
from lipwright.cli.process import stop

if TYPE_CHECKING:
    from lipwright.avatar import Avatar
    from lipwright.create import Step, Trained
    from lipwright.models.generator import Width
    from lipwright.prepare import Progress as FilmProgress

logger = logging.getLogger(__name__)

Minutes = Annotated[float, typer.Option(min=0.1, help="Time for the training; everything else comes on top.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Base = Annotated[str | None, typer.Option(help="Avatar to start from, or presenter; else his ear alone.")]
WidthName = Annotated[str, typer.Option(help="full, or mobile: half as wide, for slow machines.")]
Baselines = Annotated[bool, typer.Option(help="Also train plainly, to compare with; takes as long again.")]


@app.command()
def prepare(
    video: Annotated[Path, typer.Argument(help="Film of one person speaking to the camera.")],
    out: PackageOutput,
    audio: Annotated[Path | None, typer.Option(help="Sound to use instead of the film's own.")] = None,
    face: Annotated[int | None, typer.Option(min=1, help="Which face, counted from the left; else who speaks.")] = None,
    audio_encoder: Annotated[Path | None, typer.Option(help="ONNX instead of the presenter's.")] = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make an avatar without a generator of a film, and report how good the film is. Goes on where it was stopped."""
    from lipwright.prepare import prepare as prepare_avatar

    with progress_bar(TextColumn("{task.description}")) as bar:
        task = bar.add_task("opening the film", total=None)

        def show(progress: FilmProgress) -> None:
            stop.leave_if_asked()
            bar.update(task, description=progress.step, completed=progress.done, total=progress.total)

        prepared = prepare_avatar(
            video, out, audio=audio, face=face, audio_encoder=audio_encoder, replace=force, progress=show
        )
    sentences = [problem.sentence() for problem in prepared.problems]
    if as_json:
        facts = {"output": str(prepared.avatar.path), "report": str(prepared.report), "verdict": prepared.verdict}
        print_json(facts | {"problems": sentences, "figures": prepared.avatar.manifest.figures})
    else:
        typer.echo("\n".join([f"{prepared.avatar.path}: {prepared.verdict}", *sentences, f"report: {prepared.report}"]))


@app.command()
def train(
    avatar: Annotated[str, typer.Argument(help="Path, or NAME of NAME.avatar, as `lipwright prepare` made it.")],
    minutes: Minutes = 30,
    device: Device = "auto",
    base: Base = None,
    width: WidthName = "full",
    baselines: Baselines = False,
    pack: Annotated[Path | None, typer.Option(help="Only write PACK.npz, to train on another machine.")] = None,
    trained: Annotated[Path | None, typer.Option(help="Folder of a training done there; nothing is trained.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Teach a prepared avatar to speak, and report how well it learnt. Goes on where it was stopped."""
    from lipwright.create import pack_avatar, train_avatar

    opened = open_avatar(avatar)
    start = _base(base)
    with _steps() as show:
        if pack is not None:
            pack_avatar(opened, pack, start, show)
        else:
            result = train_avatar(
                opened,
                minutes=minutes,
                device=_device(device),
                base=start,
                width=_width(width),
                baselines=baselines,
                trained=trained,
                progress=show,
            )
    if pack is not None:
        typer.echo(f"{pack}: python -m lipwright.training {pack.name} RUN --minutes {minutes:g}")
    else:
        _print_trained(result, [], as_json)


@app.command()
def create(
    video: Annotated[Path, typer.Argument(help="Film of one person speaking to the camera.")],
    out: PackageOutput,
    minutes: Minutes = 30,
    device: Device = "auto",
    audio: Annotated[Path | None, typer.Option(help="Sound to use instead of the film's own.")] = None,
    face: Annotated[int | None, typer.Option(min=1, help="Which face, counted from the left; else who speaks.")] = None,
    base: Base = None,
    width: WidthName = "full",
    baselines: Baselines = False,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make a speaking avatar of a film: prepare, train, export and check. Goes on where it was stopped."""
    from lipwright.create import create as create_avatar

    with _steps() as show:
        created = create_avatar(
            video,
            out,
            audio=audio,
            face=face,
            minutes=minutes,
            device=_device(device),
            base=_base(base),
            width=_width(width),
            baselines=baselines,
            replace=force,
            progress=show,
        )
    _print_trained(created.trained, created.film_problems, as_json)


@contextmanager
def _steps() -> Iterator[Callable[[Step], None]]:
    """A bar with what is done and the time left; where nobody watches, a line for each new kind of step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("opening", total=None)
        said: list[str] = []

        def show(step: Step) -> None:
            stop.leave_if_asked()
            what = step.step.partition(",")[0]
            if [what] != said[-1:]:
                said.append(what)
                logger.info("%s", what)
                if step.total != bar.tasks[0].total:
                    bar.reset(task, total=step.total)
            bar.update(task, description=step.step, completed=step.done, total=step.total)

        yield show


def _base(name: str | None) -> Avatar | None:
    """An avatar by name or path; ``presenter`` is the built-in one."""
    return None if name is None else open_avatar(None if name == "presenter" else name)


def _device(name: str) -> str:
    """``auto`` is the graphics card if torch can use one."""
    if name not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{name}: auto, cpu or cuda", param_hint="--device")
    if name != "auto":
        return name
    from lipwright.runtimes import has_nvidia

    return "cuda" if has_nvidia() else "cpu"


def _width(name: str) -> Width:
    widths: dict[str, Width] = {"full": "full", "mobile": "mobile"}
    if name not in widths:
        raise typer.BadParameter(f"{name}: full or mobile", param_hint="--width")
    return widths[name]


def _print_trained(trained: Trained, film_problems: list[str], as_json: bool) -> None:
    avatar, figures = trained.avatar, trained.figures
    if as_json:
        facts = {"output": str(avatar.path), "report": str(trained.report), "verdict": trained.verdict}
        print_json(facts | {"problems": film_problems, "figures": figures, "training": trained.training["scores"]})
        return
    lines = [f"{avatar.path}: {trained.verdict}", *film_problems]
    for name in ("own sound", "nearest pose", "mean picture"):
        row = figures[name]
        lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items() if value is not None))
    lines += [
        f"report: {trained.report}",
        f"let it speak: lipwright render --avatar {avatar.path} SPEECH.wav -o out.mp4",
    ]
    typer.echo("\n".join(lines))
