"""The command ``lipwright``: flags -> one call, logging, exit codes.

Exit codes: 0 done; 1 a LipwrightError or anything unexpected, told in one line; 2 wrong usage; 130 stopped by Ctrl-C.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib import resources
from itertools import islice
from math import ceil
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lipwright.audio.window import Padding
from lipwright.contract import FPS, WINDOW_FUTURE, Border
from lipwright.errors import LipwrightError, MediaError
from lipwright.runtimes.base import Precision

if TYPE_CHECKING:
    from lipwright.audio.decode import SoundReader
    from lipwright.avatar import Avatar
    from lipwright.doctor import Installation
    from lipwright.prepare import Progress as FilmProgress
    from lipwright.video import FrameSink

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="lipwright",
    help="Speech in, a video of a person saying it out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# --- the process: errors, signals, log ------------------------------------------------------------------------------


class _Stop:
    """Ctrl-C and SIGTERM leave by an exception, so that writers remove what is half done.

    An exception that comes at any moment may get lost: in a callback out of C, or in an import that makes another
    error of it. So the signal is remembered, and asked for where frames are counted and where errors end.
    """

    def __init__(self) -> None:
        self._number: int | None = None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle the signals for as long as the command runs."""
        self._number = None
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def leave_if_asked(self) -> None:
        """Leave with 128 + the signal's number, if there was one."""
        if self._number is not None:
            sys.exit(128 + self._number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._number is None:  # a second one must not disturb the removal of what is half done
            self._number = number
            _say("stopped; what was not finished is removed")
            self.leave_if_asked()


_stop = _Stop()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code; the one place that turns errors into a line and a code.

    Args:
        args: the command line without the program's name; None: that of the process.
    """
    with _stop.on_signals(), _log_on_stderr():
        try:
            app(args, prog_name="lipwright")
        except Exception as error:
            _stop.leave_if_asked()
            logger.debug("the error came from here", exc_info=True)
            _say(_in_words(error))
        sys.exit(1)


def _in_words(error: Exception) -> str:
    if isinstance(error, LipwrightError):
        return str(error)
    remedy = "" if logger.isEnabledFor(logging.DEBUG) else "; run again with --debug to see where"
    return f"unexpected {type(error).__name__}: {error}{remedy}"


def _say(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    typer.echo(f"lipwright: {' '.join(message.split())}", err=True)


class _Stderr(logging.Handler):
    """Log lines on the stderr of the moment, which a progress bar may have wrapped."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Warnings of the project, or more if a flag asks for it, for as long as the command runs."""
    log = logging.getLogger("lipwright")
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    before = log.level
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def _verbose(wanted: bool) -> None:
    if wanted:
        logging.getLogger("lipwright").setLevel(logging.INFO)


def _debug(wanted: bool) -> None:
    if wanted:
        logging.getLogger("lipwright").setLevel(logging.DEBUG)


# --- options that several commands share ----------------------------------------------------------------------------

Verbose = Annotated[bool, typer.Option("-v", "--verbose", callback=_verbose, is_eager=True, help="Say what is done.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_debug, help="Say everything; show where errors come from.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that is there already.")]
Output = Annotated[str, typer.Option("-o", "--out", help="OUT.mp4, or FOLDER/ for PNG pictures and sound.wav.")]
PackageOutput = Annotated[Path, typer.Option("-o", "--out", help="NAME.avatar, the folder to write.")]
RuntimeName = Annotated[
    str, typer.Option("--runtime", help="auto, onnxruntime, openvino or torch; onnxruntime:cuda names a provider.")
]
PrecisionName = Annotated[Precision, typer.Option(help="Arithmetic of the generator.")]
BorderName = Annotated[Border, typer.Option(help="soft blends the new region into the frame; exact pastes it.")]
Lookahead = Annotated[int, typer.Option(min=0, max=WINDOW_FUTURE, help="Future features that a frame waits for.")]


# --- commands -------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    out: Output = "demo.mp4",
    runtime: RuntimeName = "auto",
    precision: PrecisionName = "auto",
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Let the built-in presenter speak the built-in sentences."""
    with resources.as_file(resources.files("lipwright") / "data" / "demo.flac") as sound:
        result = _speak(sound, out, _open_avatar(None), None, force, runtime, precision)
    _print_result(result, as_json)


@app.command()
def render(
    audio: Annotated[Path, typer.Argument(help="Sound, or a video with sound.")],
    out: Output,
    avatar: Annotated[str | None, typer.Option(help="Path, or NAME of NAME.avatar; else the presenter.")] = None,
    start: Annotated[int | None, typer.Option(min=0, help="Template frame to begin with.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    runtime: RuntimeName = "auto",
    precision: PrecisionName = "auto",
    lookahead: Lookahead = WINDOW_FUTURE,
    border: BorderName = "soft",
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Let an avatar speak a sound file."""
    opened = _open_avatar(avatar)
    result = _speak(
        audio, out, opened, frames, force, runtime, precision, start=start, lookahead=lookahead, border=border
    )
    _print_result(result, as_json)


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

    with _progress_bar(TextColumn("{task.description}")) as bar:
        task = bar.add_task("opening the film", total=None)

        def show(progress: FilmProgress) -> None:
            _stop.leave_if_asked()
            bar.update(task, description=progress.step, completed=progress.done, total=progress.total)

        prepared = prepare_avatar(
            video, out, audio=audio, face=face, audio_encoder=audio_encoder, replace=force, progress=show
        )
    sentences = [problem.sentence() for problem in prepared.problems]
    if as_json:
        facts = {"output": str(prepared.avatar.path), "report": str(prepared.report), "verdict": prepared.verdict}
        _print_json(facts | {"problems": sentences, "figures": prepared.avatar.manifest.figures})
    else:
        typer.echo("\n".join([f"{prepared.avatar.path}: {prepared.verdict}", *sentences, f"report: {prepared.report}"]))


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Folder of a package made elsewhere.")],
    out: PackageOutput,
    audio_encoder: Annotated[Path | None, typer.Option(help="ONNX or .pth, where the package holds none.")] = None,
    generator: Annotated[Path | None, typer.Option(help="ONNX or .pth, where the package holds none.")] = None,
    padding: Annotated[Padding | None, typer.Option(help="Beyond the ends of the sound.")] = None,
    force: Force = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make an avatar from a package in one of the layouts found in the wild."""
    from lipwright.avatar import import_package

    report = import_package(
        source, out, audio_encoder=audio_encoder, generator=generator, padding=padding, replace=force
    )
    typer.echo("\n".join(report.lines()))


@app.command()
def export(
    avatar: Annotated[str, typer.Argument(help="Path, or NAME of NAME.avatar.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights (.pth) instead of those in the avatar.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Store f32 weights: twice the size of fp16.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make ONNX of an avatar's torch weights, and prove that both draw the same."""
    from lipwright.export_avatar import export_avatar

    exported = export_avatar(_open_avatar(avatar), checkpoint, half=not full)
    parities = {key: m.parity.model_dump() for key, m in exported.manifest.models.records().items() if m.parity}
    if as_json:
        _print_json({"path": str(exported.path), "parity": parities})
    else:
        for key, parity in parities.items():
            figures = ", ".join(f"{name} {value}" for name, value in parity.items() if value is not None)
            typer.echo(f"{exported.path}: {key}: {figures}")


@app.command()
def info(
    avatar: Annotated[str | None, typer.Argument(help="Path, or NAME of NAME.avatar; else the presenter.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Look into every file; exit with 1 if one is wrong.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Say what an avatar is made of, and what it can do."""
    opened = _open_avatar(avatar)
    problems = opened.verify() if verify else []
    if as_json:
        facts = {
            "path": str(opened.path),
            "missing": opened.missing(),
            "manifest": opened.manifest.model_dump(mode="json"),
        }
        _print_json(facts | ({"problems": problems} if verify else {}))
    else:
        found = [f"wrong: {problem}" for problem in problems] or ["verified: every file is right"] * verify
        typer.echo("\n".join([*_describe(opened), *found]))
    if problems:
        raise typer.Exit(1)


@app.command()
def doctor(
    networks: Annotated[bool, typer.Option(help="Run the presenter's generator in every runtime.")] = True,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Look at the installation: what is there, what works, how fast; exit 1 if something is wrong."""
    from lipwright.avatar import builtin_avatar
    from lipwright.avatar.package import GENERATOR
    from lipwright.doctor import examine

    model = builtin_avatar() / GENERATOR
    installation = examine(model if networks and model.is_file() else None)
    if as_json:
        _print_json(asdict(installation))
    else:
        typer.echo("\n".join(_describe_installation(installation)))
    if installation.problems:
        raise typer.Exit(1)


# --- speaking -------------------------------------------------------------------------------------------------------


def _speak(
    audio: Path,
    out: str,
    avatar: Avatar,
    count: int | None,
    force: bool,
    runtime: str,
    precision: Precision,
    **options: Any,
) -> dict[str, Any]:
    """Render ``audio`` to ``out`` and say what came of it; ``options`` are further ones of Renderer."""
    from lipwright.audio.decode import SoundReader
    from lipwright.render import Networks, Renderer

    with SoundReader(audio) as sound, _open_sink(out, avatar, sound, force) as sink:
        networks = Networks.open(avatar, runtime, precision)
        with (
            Renderer(avatar, sound.rate, sound.channels, networks=networks, **options) as renderer,
            closing(renderer.stream(sound)) as frames,
            _progress_bar() as bar,
        ):
            began, done = time.perf_counter(), 0
            for frame in bar.track(islice(frames, count), total=_expected_frames(sound, count)):
                _stop.leave_if_asked()
                sink.write(frame.image, frame.samples)
                done += 1
            speed = done / (time.perf_counter() - began)
    return {
        "output": out,
        "avatar": avatar.name,
        "frames": done,
        "seconds": done / FPS,
        "frames_a_second": round(speed, 1),
        "generator": networks.generator.detail,
        "audio_encoder": networks.encoder.detail,
    }


def _open_avatar(name: str | None) -> Avatar:
    from lipwright.avatar import Avatar, builtin_avatar

    return Avatar.open(builtin_avatar() if name is None else name)


def _open_sink(out: str, avatar: Avatar, sound: SoundReader, force: bool) -> FrameSink:
    """Where the frames go.

    Raises:
        MediaError: the output is there already, or cannot be written.
    """
    from lipwright.video import PngWriter, VideoWriter

    path = Path(out)
    is_folder = out.endswith(("/", os.sep)) or path.is_dir() or not path.suffix
    if not is_folder and path.suffix.lower() != ".mp4":
        raise typer.BadParameter(f"{out}: a film is called OUT.mp4, a folder of pictures FOLDER/", param_hint="--out")
    if not force and (any(path.iterdir()) if path.is_dir() else path.exists()):
        raise MediaError(f"{out} is there already: choose another name, or replace it with --force")
    if is_folder:
        return PngWriter(path, sound.rate, sound.channels)
    sizes = avatar.manifest.sizes
    return VideoWriter(path, sizes.width, sizes.height, sound.rate, sound.channels)


def _expected_frames(sound: SoundReader, count: int | None) -> int | None:
    """How many frames there will be, as far as the file's header can be trusted; None: unknown."""
    if sound.duration is None:
        return count
    return min(ceil(sound.duration * FPS), count or sys.maxsize)


class _Speed(ProgressColumn):
    """Frames a second so far."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text("" if task.speed is None else f"{task.speed:.1f} fps")


def _progress_bar(*first: ProgressColumn) -> Progress:
    """Frames done, speed and time left on stderr after the ``first`` columns; nothing where nobody watches."""
    console = Console(stderr=True)
    columns = (*first, BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())


# --- what is printed ------------------------------------------------------------------------------------------------


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(result)
    else:
        typer.echo(
            f"{result['output']}: {result['frames']} frames, {result['seconds']:.2f} s, "
            f"{result['frames_a_second']} frames a second, {result['generator']}"
        )


def _describe(avatar: Avatar) -> list[str]:
    """An avatar in lines of plain text."""
    manifest = avatar.manifest
    sizes, window = manifest.sizes, manifest.window
    lines = [
        f"{avatar.name}  ({avatar.path})",
        f"template: {sizes.width} x {sizes.height}, {sizes.frames} frames, {sizes.frames / FPS:.2f} s",
        f"crops are resized by {manifest.resize}; the window of {window.past} + 1 + {window.future} features is padded "
        f"by {window.padding}; the encoder is aligned {manifest.encoder.alignment.name}",
    ]
    lines += [f"{key}: {m.file}, {m.licence}, {m.origin}" for key, m in manifest.models.records().items()]
    lines += [f"source: {manifest.source}"] if manifest.source else []
    lines += [f"assumed: {sentence}" for sentence in manifest.assumptions]
    lines += [f"{name}: {value}" for name, value in manifest.figures.items()]
    return lines + [f"missing: {sentence}" for sentence in avatar.missing()]


def _describe_installation(found: Installation) -> list[str]:
    """An installation in lines of plain text; what is wrong comes last."""
    processor = found.processor
    memory = "" if found.memory_gib is None else f", {found.memory_gib:.0f} GiB"
    lines = [
        f"lipwright {found.lipwright}, Python {found.python}, {found.system}",
        f"{processor.name}, {processor.cores} cores{memory}, {' '.join(processor.flags)}",
        "libraries: " + ", ".join(f"{name} {version or 'missing'}" for name, version in found.libraries.items()),
    ]
    for name, absent in found.extras.items():
        lines.append(f"extra {name}: {'needs ' + ', '.join(absent) if absent else 'ready'}")
    lines.append("codecs: " + ", ".join(what for what, there in found.codecs.items() if there))
    for runtime in found.runtimes:
        speed = "" if runtime.milliseconds is None else f"{runtime.milliseconds:.0f} ms a frame, "
        lines.append(f"{'works' if runtime.works else 'no   '} {runtime.name}: {speed}{runtime.detail}")
    lines.append(f"decisions are kept in {found.cache}")
    lines += [f"hint: {hint}" for hint in found.hints]
    return lines + [f"wrong: {problem}" for problem in found.problems]
