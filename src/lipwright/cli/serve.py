"""Let avatars speak live: ``serve``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lipwright.cli.app import app, open_avatar
from lipwright.cli.credentials import IHaveConsent, NoCredentials, SignCert, SignKey, disclosure_of, warn_of
from lipwright.cli.options import BorderName, Debug, Lookahead, PrecisionName, QualityName, RuntimeName, Verbose
from lipwright.cli.process import say
from lipwright.contract import FPS
from lipwright.errors import LipwrightError, MissingExtraError

if TYPE_CHECKING:
    from lipwright.serve.engine import Engine
    from lipwright.serve.http import Attach, Door
    from lipwright.serve.safety import Policy

#: The least that keeps the mouth's LMD and closed-lip recall within 3 % of all seven, the sounds of both films counted
#: together (docs/serving.md, "Look-ahead").
_LOOKAHEAD = 1
#: The modules that the doors need and the distributions that bring them, by extra.
_NEEDED = {
    "serve": {"fastapi": "fastapi", "uvicorn": "uvicorn", "websockets": "websockets"},
    "webrtc": {"aiortc": "aiortc"},
    "grpc": {
        "grpc": "grpcio",
        "grpc_health": "grpcio-health-checking",
        "grpc_reflection": "grpcio-reflection",
        "google.protobuf": "protobuf",
    },
}

Certificate = Annotated[Path | None, typer.Option("--tls-cert", help="PEM certificate: https, wss, and TLS for gRPC.")]
Key = Annotated[Path | None, typer.Option("--tls-key", help="PEM private key of the certificate.")]


@app.command()
def serve(
    avatars: Annotated[list[str] | None, typer.Argument(metavar="[AVATAR]...", help="Else the presenter.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; elsewhere than here needs LIPWRIGHT_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 lets the system choose.")] = 8700,
    grpc_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Listen for gRPC too.")] = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    lookahead: Lookahead = _LOOKAHEAD,
    sessions: Annotated[int | None, typer.Option(min=1, help="Sessions to hold; else as many as are measured.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="Further name that the server answers to.")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="Further page that may use it, https://...")] = None,
    quality: QualityName = "full",
    runtime: RuntimeName = "auto",
    precision: PrecisionName = "auto",
    border: BorderName = "soft",
    sign_key: SignKey = None,
    sign_cert: SignCert = None,
    no_credentials: NoCredentials = False,
    i_have_consent: IHaveConsent = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Let avatars speak live: a page, HTTP, WebSocket, WebRTC, gRPC. The token is read from LIPWRIGHT_TOKEN."""
    _require("serve", *(["grpc"] if grpc_port is not None else []))
    from lipwright.serve.engine import Engine
    from lipwright.serve.faces import Face
    from lipwright.serve.http import create_app
    from lipwright.serve.listen import address_of, bind, server
    from lipwright.serve.safety import TOKEN_VARIABLE, Policy

    token = os.environ.get(TOKEN_VARIABLE) or None
    policy = Policy(host, token, tuple(allow_host or ()), tuple(allow_origin or ()))
    _check_tls(policy, tls_cert, tls_key)
    socket = bind(host, port)
    names: list[str | None] = [*avatars] if avatars else [None]
    shown = [open_avatar(name).at(quality) for name in names]
    due = [
        disclosure_of(avatar, sign_key, sign_cert, no_credentials=no_credentials, i_have_consent=i_have_consent)
        for avatar in shown
    ]
    for avatar, disclosure in zip(shown, due, strict=True):
        warn_of(disclosure, avatar)
    faces = [Face.open(a, runtime, precision, border, d) for a, d in zip(shown, due, strict=True)]
    engine = Engine(faces, sessions=sessions, lookahead=lookahead, pushed_seconds=policy.limits.pushed_seconds)
    engine.start()
    try:
        doors = _grpc(engine, policy, grpc_port, tls_cert, tls_key)
        listening = server(create_app(engine, policy, doors, _webrtc()), policy.limits, tls_cert, tls_key)
        _tell(engine)
        say(f"{'https' if tls_cert else 'http'}://{address_of(socket)}")
        listening.run(sockets=[socket])
    finally:
        engine.stop()


def _require(*extras: str) -> None:
    """Raise MissingExtraError unless the libraries of these extras are there, before anything is opened."""
    for extra in extras:
        missing = _missing(extra)
        if missing is not None:
            raise missing


def _missing(extra: str) -> MissingExtraError | None:
    """The first library of an extra that is not there, with the pip command; None: all are."""
    absent = (distribution for module, distribution in _NEEDED[extra].items() if not _is_there(module))
    return next((MissingExtraError(distribution, extra) for distribution in absent), None)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is not there either
        return False


def _check_tls(policy: Policy, certificate: Path | None, key: Path | None) -> None:
    from lipwright.serve.safety import is_loopback

    if (certificate is None) != (key is None):
        raise LipwrightError("TLS needs both --tls-cert and --tls-key")
    if certificate is None and not is_loopback(policy.host):
        say("without --tls-cert and --tls-key anybody on the way can read the token and hear the sound")


def _webrtc() -> list[Attach]:
    """The door, or what tells its clients how to get it."""
    missing = _missing("webrtc")
    if missing is None:
        from lipwright.serve.webrtc import attach

        return [attach]
    from lipwright.serve.absent import without_webrtc

    say(f"WebRTC is off: {missing}")
    return [without_webrtc(missing)]


def _grpc(engine: Engine, policy: Policy, port: int | None, certificate: Path | None, key: Path | None) -> list[Door]:
    if port is None:
        return []
    from lipwright.serve.grpc import GrpcDoor

    return [GrpcDoor(engine, policy, policy.host, port, certificate, key)]


def _tell(engine: Engine) -> None:
    """What this machine can do, on stderr."""
    for face in engine.faces.values():
        costs = engine.costs[face.name]
        say(f"{face.name}: {face.networks.generator.detail}; a frame costs {costs.tick_ms(1):.1f} ms")
        if costs.tick_ms(1) > 1000 / FPS:
            faster = (
                "; --quality fast draws more"
                if face.avatar.quality == "full" and "fast" in face.avatar.qualities
                else ""
            )
            slow = f"this machine draws fewer than {FPS} pictures a second of {face.name}"
            say(f"{slow}: sound goes on, pictures skip{faster}")
        say(f"look-ahead {engine.lookahead}: {face.lookahead_ms(engine.lookahead):g} ms of sound before a frame")
    say(f"{engine.capacity} session(s) at {FPS} frames a second")
