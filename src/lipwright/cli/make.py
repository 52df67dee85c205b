"""From a film to an avatar: ``prepare``, ``train``, ``create``."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lipwright.cli.app import app, open_avatar, print_json, progress_bar
from lipwright.cli.credentials import SignCert, SignKey, identity_of
from lipwright.cli.options import AsJson, Debug, Force, PackageOutput, Verbose
from lipwright.cli.process import stop

if TYPE_CHECKING:
    from lipwright.avatar import Avatar
    from lipwright.contract import Alignment
    from lipwright.create import Agreed, FilmFindings, Step, Trained
    from lipwright.models.generator import Width
    from lipwright.prepare import Progress as FilmProgress

#: Seconds from one line of a long step to the next where nobody watches a bar.
_LINE_SECONDS = 60.0

Minutes = Annotated[float, typer.Option(min=0.1, help="Time for the training; everything else comes on top.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Base = Annotated[str | None, typer.Option(help="Avatar to start from; else the built-in presenter.")]
WidthName = Annotated[
    str | None, typer.Option(help="full, or mobile, half as wide, for slow machines; else the base's.")
]
Baselines = Annotated[bool, typer.Option(help="Also train plainly, to compare with: more than twice the time in all.")]
Encoder = Annotated[
    Path | None, typer.Option("--audio-encoder", help="Your own audio encoder, ONNX or .pth, not the presenter's.")
]
Aligned = Annotated[
    str | None, typer.Option("--alignment", help="What it was trained to hear: centred (ours) or ave (SyncTalk's).")
]
Shown = Annotated[
    str | None, typer.Option("--consent-shown", help='Who is in the film; "nobody: ..." for a synthetic face.')
]
AgreedBy = Annotated[str | None, typer.Option("--consent-by", help="Who agreed: the person, a guardian or an agent.")]
AgreedFor = Annotated[str | None, typer.Option("--consent-for", help="What the avatar may be used for.")]
AgreedOn = Annotated[
    datetime | None, typer.Option("--consent-on", formats=["%Y-%m-%d"], help="Day of the consent; else today.")
]
NoConsent = Annotated[
    bool, typer.Option("--no-consent", help="There is none on file: do not ask; films will carry a visible mark.")
]


@app.command()
def prepare(
    video: Annotated[Path, typer.Argument(help="Film of one person speaking to the camera.")],
    out: PackageOutput,
    audio: Annotated[Path | None, typer.Option(help="Sound to use instead of the film's own.")] = None,
    face: Annotated[int | None, typer.Option(min=1, help="Which face, counted from the left; else who speaks.")] = None,
    audio_encoder: Encoder = None,
    alignment: Aligned = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make an avatar without a generator of a film, and report how good the film is. Goes on where it was stopped."""
    from lipwright.create import as_onnx
    from lipwright.prepare import prepare as prepare_avatar

    hears = _alignment(audio_encoder, alignment)
    with tempfile.TemporaryDirectory() as folder, progress_bar(TextColumn("{task.description}")) as bar:
        task = bar.add_task("opening the film", total=None)

        def show(progress: FilmProgress) -> None:
            stop.leave_if_asked()
            bar.update(task, description=progress.step, completed=progress.done, total=progress.total)

        prepared = prepare_avatar(
            video,
            out,
            audio=audio,
            face=face,
            audio_encoder=audio_encoder and as_onnx(audio_encoder, hears, Path(folder)),
            alignment=hears,
            replace=force,
            progress=show,
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
    width: WidthName = None,
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
            pack_avatar(opened, pack, start, _width(width), show)
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
    if pack is not None and as_json:
        print_json({"output": str(pack)})
    elif pack is not None:
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
    audio_encoder: Encoder = None,
    alignment: Aligned = None,
    base: Base = None,
    width: WidthName = None,
    baselines: Baselines = False,
    consent_shown: Shown = None,
    consent_by: AgreedBy = None,
    consent_for: AgreedFor = None,
    consent_on: AgreedOn = None,
    no_consent: NoConsent = False,
    sign_key: SignKey = None,
    sign_cert: SignCert = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make a speaking avatar of a film: prepare, train, export, check, sign who agreed. Goes on where it stopped."""
    from lipwright.create import create as create_avatar

    agreed = _agreed(consent_shown, consent_by, consent_for, consent_on, no_consent)
    identity = None if sign_key is None and sign_cert is None else identity_of(sign_key, sign_cert)
    with _steps() as show:
        created = create_avatar(
            video,
            out,
            audio=audio,
            face=face,
            audio_encoder=audio_encoder,
            alignment=_alignment(audio_encoder, alignment),
            minutes=minutes,
            device=_device(device),
            base=_base(base),
            width=_width(width),
            baselines=baselines,
            replace=force,
            agreed=agreed,
            ask=_ask_consent,
            identity=identity,
            on_film=lambda film: _tell_film(film, minutes, baselines),
            progress=show,
        )
    _print_trained(created.trained, list(created.film.problems), as_json)


def _tell_film(film: FilmFindings, minutes: float, baselines: bool) -> None:
    """Say what is wrong with a film while there is time to film it better: on stderr, before the long part."""
    from lipwright.training.person import with_plain

    minutes = minutes if film.planned is None else film.planned
    minutes = math.ceil(with_plain(minutes)) if baselines else minutes
    learns = "learns now" if film.planned is None else "goes on learning, planned"
    lines = [film.verdict, *film.problems, f"what was found, with pictures: {film.report}"]
    lines.append(f"it {learns} for about {minutes:g} minutes; packing, exporting and measuring come on top")
    typer.echo("\n".join(line for line in lines if line), err=True)


def _agreed(shown: str | None, by: str | None, purpose: str | None, on: datetime | None, none: bool) -> Agreed | None:
    """What the options say about consent; None where they say nothing."""
    from lipwright.avatar import Consent
    from lipwright.create import Agreed

    said = {"--consent-shown": shown, "--consent-by": by, "--consent-for": purpose}
    given = [option for option, value in said.items() if value] + ["--consent-on"] * (on is not None)
    if none and given:
        raise typer.BadParameter(f"contradicts {', '.join(given)}", param_hint="--no-consent")
    if none:
        return Agreed(None)
    if not given:
        return None
    if not (shown and by and purpose):
        missing = [option for option, value in said.items() if not value]
        raise typer.BadParameter("a consent needs it too", param_hint=", ".join(missing))
    day = date.today() if on is None else on.date()
    return Agreed(Consent(shown=shown, agreed_by=by, agreed_on=day, purpose=purpose))


def _ask_consent() -> Agreed:
    """Ask on the terminal who is shown, who agreed, to what and when; where nobody can answer, there is no consent."""
    from lipwright.avatar import Consent
    from lipwright.create import Agreed

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return Agreed(None)
    typer.echo(_WHY_CONSENT, err=True)
    shown = _answer("Who is shown in the film", "")
    if not shown:
        return Agreed(None)
    by = _answer("Who agreed", shown)
    purpose = _answer("To what (lectures, our news, ...)", None)
    on = typer.prompt("On which day", default=date.today().isoformat(), value_proc=_day, err=True)
    return Agreed(Consent(shown=shown, agreed_by=by, agreed_on=on, purpose=purpose))


_WHY_CONSENT = (
    "Consent of the person filmed: it is signed with the avatar, and every film made with it says so.\n"
    "Leave the first answer empty if there is none: films then carry a visible mark, until `lipwright consent` is used."
)


def _answer(question: str, default: str | None) -> str:
    """One line, without spaces around it; asked again until there is something where there is no default."""
    answer = ""
    while not answer:
        answer = str(typer.prompt(question, default=default, show_default=bool(default), err=True)).strip()
        if default == "":
            break
    return answer


def _day(text: str) -> date:
    """A day such as 2026-01-31, for a prompt."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{text}: write the day as 2026-01-31") from error


@contextmanager
def _steps() -> Iterator[Callable[[Step], None]]:
    """Shows what is done and the time left: a bar on a terminal, lines elsewhere.

    Either begins with the first step: questions may be asked before.
    """
    with _bar() if sys.stderr.isatty() else nullcontext(_Lines()) as tell:

        def show(step: Step) -> None:
            stop.leave_if_asked()
            tell(step)

        yield show


@contextmanager
def _bar() -> Iterator[Callable[[Step], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("opening", total=None)
    kind = ""

    def show(step: Step) -> None:
        nonlocal kind
        bar.start()
        if step.kind != kind:
            kind = step.kind
            if step.total != bar.tasks[0].total:
                bar.reset(task, total=step.total)
        bar.update(task, description=step.step, completed=step.done, total=step.total)

    try:
        yield show
    finally:
        bar.stop()


class _Lines:
    """A line on stderr for each new kind of step and each minute of a long one, for a log that nobody watches."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._kind = ""
        self._total: float | None = None
        self._first = (0.0, 0.0)
        """When the stretch with this total began, and what was done by then."""
        self._said = 0.0

    def __call__(self, step: Step) -> None:
        now = self._now()
        if step.total != self._total:
            self._total, self._first = step.total, (now, step.done)
        if step.kind == self._kind and now - self._said < _LINE_SECONDS:
            return
        self._kind, self._said = step.kind, now
        typer.echo(f"{_clock(now - self._began)} {step.step}{self._left(now, step.done)}", err=True)

    def _left(self, now: float, done: float) -> str:
        began, first = self._first
        if self._total is None or done <= first:
            return ""
        left = (now - began) / (done - first) * (self._total - done)
        return f", {done / self._total:.0%}, {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _base(name: str | None) -> Avatar | None:
    """An avatar by name or path."""
    return None if name is None else open_avatar(name)


def _device(name: str) -> str:
    """What there may be; whether torch has it is asked where torch is at hand."""
    if name not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{name}: auto, cpu or cuda", param_hint="--device")
    return name


def _alignment(encoder: Path | None, name: str | None) -> Alignment:
    """What an encoder hears by the name of its alignment; ONNX without a name is ours."""
    from lipwright.contract import AVE, CENTRED
    from lipwright.create.encoder import is_torch

    known = {alignment.name: alignment for alignment in (CENTRED, AVE)}
    if name is None:
        if encoder is not None and is_torch(encoder):
            told = "torch weights do not say it: ave for those of SyncTalk_2D, centred for those of tools.speech"
            raise typer.BadParameter(told, param_hint="--alignment")
        return CENTRED
    if name not in known:
        raise typer.BadParameter(f"{name}: {' or '.join(known)}", param_hint="--alignment")
    if encoder is None:
        raise typer.BadParameter("belongs to --audio-encoder", param_hint="--alignment")
    return known[name]


def _width(name: str | None) -> Width | None:
    widths: dict[str | None, Width | None] = {None: None, "full": "full", "mobile": "mobile"}
    if name not in widths:
        raise typer.BadParameter(f"{name}: full or mobile", param_hint="--width")
    return widths[name]


def _print_trained(trained: Trained, film_problems: list[str], as_json: bool) -> None:
    from lipwright.avatar import consent_standing

    avatar, figures = trained.avatar, trained.figures
    standing = consent_standing(avatar.manifest)
    if as_json:
        facts: dict[str, Any] = {
            "output": str(avatar.path),
            "report": str(trained.report),
            "verdict": trained.verdict,
        }
        facts |= {"consent": asdict(standing)}
        print_json(facts | {"problems": film_problems, "figures": figures, "training": trained.training["scores"]})
        return
    lines = [f"{avatar.path}: {trained.verdict}", *film_problems]
    for name in ("own sound", "nearest pose", "mean picture", "plain L1", "truth"):
        if (row := figures.get(name)) is None:
            continue
        lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items() if value is not None))
    lines += [
        f"consent: {standing.sentence}",
        *([] if standing.suffices else [f"films carry a visible mark: lipwright consent {avatar.path}"]),
        f"report: {trained.report}",
        f"let it speak: lipwright render --avatar {avatar.path} SPEECH.wav -o out.mp4",
    ]
    typer.echo("\n".join(lines))
