"""Let an avatar speak: ``demo``, ``render``."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lipwright.cli.app import app, open_avatar, print_json, progress_bar
from lipwright.cli.credentials import IHaveConsent, NoCredentials, SignCert, SignKey, disclosure_of, warn_of
from lipwright.cli.options import (
    AsJson,
    BorderName,
    BuiltInName,
    Debug,
    Force,
    Lookahead,
    Output,
    PrecisionName,
    QualityName,
    RuntimeName,
    Verbose,
)
from lipwright.cli.process import stop
from lipwright.contract import FPS, WINDOW_FUTURE
from lipwright.errors import MediaError
from lipwright.runtimes.base import Precision

if TYPE_CHECKING:
    from lipwright.audio.decode import SoundReader
    from lipwright.avatar import Avatar
    from lipwright.avatar.disclosure import Disclosure
    from lipwright.video import FrameSink


@app.command()
def demo(
    out: Output = "demo.mp4",
    avatar: BuiltInName = "presenter",
    quality: QualityName = "full",
    runtime: RuntimeName = "auto",
    precision: PrecisionName = "auto",
    sign_key: SignKey = None,
    sign_cert: SignCert = None,
    no_credentials: NoCredentials = False,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Let a built-in presenter speak the built-in sentences."""
    from lipwright.avatar import Avatar, builtin_avatar, builtin_sound

    opened = Avatar.open(builtin_avatar(avatar)).at(quality)
    disclosure = disclosure_of(opened, sign_key, sign_cert, no_credentials=no_credentials, i_have_consent=False)
    result = _speak(builtin_sound(avatar), out, opened, disclosure, None, force, runtime, precision)
    _print_result(result, as_json)


@app.command()
def render(
    audio: Annotated[Path, typer.Argument(help="Sound, or a video with sound.")],
    out: Output,
    avatar: Annotated[str | None, typer.Option(help="Path, or NAME of NAME.avatar; else the presenter.")] = None,
    start: Annotated[int | None, typer.Option(min=0, help="Template frame to begin with.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    quality: QualityName = "full",
    runtime: RuntimeName = "auto",
    precision: PrecisionName = "auto",
    lookahead: Lookahead = WINDOW_FUTURE,
    border: BorderName = "soft",
    sign_key: SignKey = None,
    sign_cert: SignCert = None,
    no_credentials: NoCredentials = False,
    i_have_consent: IHaveConsent = False,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Let an avatar speak a sound file."""
    opened = open_avatar(avatar).at(quality)
    disclosure = disclosure_of(
        opened, sign_key, sign_cert, no_credentials=no_credentials, i_have_consent=i_have_consent
    )
    drawing = {"start": start, "lookahead": lookahead, "border": border}
    result = _speak(audio, out, opened, disclosure, frames, force, runtime, precision, **drawing)
    _print_result(result, as_json)


def _speak(
    audio: Path,
    out: str,
    avatar: Avatar,
    disclosure: Disclosure,
    count: int | None,
    force: bool,
    runtime: str,
    precision: Precision,
    **options: Any,
) -> dict[str, Any]:
    """Render ``audio`` to ``out`` and say what came of it; ``options`` are further ones of Renderer."""
    from lipwright.audio.decode import SoundReader
    from lipwright.render import Networks, Renderer
    from lipwright.runtimes import all_lanes

    with SoundReader(audio) as sound, _open_sink(out, avatar, sound, disclosure, force) as sink:
        networks = Networks.open(avatar, runtime, precision, lanes=all_lanes())
        with (
            Renderer(avatar, sound.rate, sound.channels, networks=networks, **options) as renderer,
            closing(renderer.stream(sound)) as frames,
            progress_bar() as bar,
        ):
            began, done = time.perf_counter(), 0
            for frame in bar.track(islice(frames, count), total=_expected_frames(sound, count)):
                stop.leave_if_asked()
                sink.write(disclosure.shown(frame.picture), frame.samples)
                done += 1
            speed = done / (time.perf_counter() - began)
    warn_of(disclosure, avatar)
    return {
        "output": out,
        "avatar": avatar.name,
        "frames": done,
        "seconds": done / FPS,
        "frames_a_second": round(speed, 1),
        "quality": avatar.quality,
        "generator": networks.generator.detail,
        "audio_encoder": networks.encoder.detail,
        "consent": disclosure.sentence,
        "marked": disclosure.mark is not None,
        "signed_by": disclosure.signer,
    }


def _open_sink(out: str, avatar: Avatar, sound: SoundReader, disclosure: Disclosure, force: bool) -> FrameSink:
    """Where the frames go.

    Raises:
        MediaError: the output is there already, or cannot be written.
    """
    from lipwright.credentials import SYNTHETIC
    from lipwright.video import PngWriter, VideoWriter

    path = Path(out)
    is_folder = out.endswith(("/", os.sep)) or path.is_dir() or not path.suffix
    if not is_folder and path.suffix.lower() != ".mp4":
        raise typer.BadParameter(f"{out}: a film is called OUT.mp4, a folder of pictures FOLDER/", param_hint="--out")
    if not force and (any(path.iterdir()) if path.is_dir() else path.exists()):
        raise MediaError(f"{out} is there already: choose another name, or replace it with --force")
    if is_folder:
        return PngWriter(path, sound.rate, sound.channels, seal=disclosure.seal)
    sizes = avatar.manifest.sizes
    size, rate, channels = (sizes.width, sizes.height), sound.rate, sound.channels
    return VideoWriter(path, *size, rate, channels, comment=SYNTHETIC, seal=disclosure.seal)


def _expected_frames(sound: SoundReader, count: int | None) -> int | None:
    """How many frames there will be, as far as the file's header can be trusted; None: unknown."""
    if sound.duration is None:
        return count
    return min(ceil(sound.duration * FPS), count or sys.maxsize)


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        typer.echo(
            f"{result['output']}: {result['frames']} frames, {result['seconds']:.2f} s, "
            f"{result['frames_a_second']} frames a second, {result['quality']} quality, {result['generator']}; "
            f"signed by {result['signed_by'] or 'nobody'}"
        )
