"""Small live servers for tests: avatars whose networks cost what they are told to, and uvicorn in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from avatars import Parts, make_avatar
from lipwright import Avatar
from lipwright.contract import AUDIO, FEATURE, INPUT, MEL, OUTPUT, FloatArray, TensorSpec
from lipwright.errors import LipwrightError
from lipwright.render import Networks
from lipwright.serve.engine import Engine
from lipwright.serve.faces import Face
from lipwright.serve.http import Attach, Door, create_app
from lipwright.serve.listen import address_of, bind, server
from lipwright.serve.safety import Limits, Policy

WIDTH, HEIGHT = 160, 144
#: A window that is louder than this is one that the broken generator cannot draw.
LOUD = 0.7
#: Long enough for a busy machine.
PATIENCE = 20.0


class CostlyGenerator:
    """Answers with the reference ROI after ``call_ms + frame_ms`` a frame; may refuse loud windows."""

    name = "costly"
    detail = "a generator of known cost"
    lanes = 1
    inputs: tuple[TensorSpec, ...] = (INPUT, AUDIO)
    outputs: tuple[TensorSpec, ...] = (OUTPUT,)

    def __init__(self, call_ms: float = 0.0, frame_ms: float = 0.0) -> None:
        self.call_ms, self.frame_ms = call_ms, frame_ms
        self.broken = False
        self.batches: list[int] = []

    def run(self, *arrays: FloatArray) -> FloatArray:
        image, windows = arrays
        self.batches.append(len(image))
        time.sleep((self.call_ms + self.frame_ms * len(image)) / 1000)
        if self.broken and (windows.max(axis=(1, 2, 3)) > LOUD).any():
            raise LipwrightError("the card has fallen out of its slot")
        return image[:, :3].copy()


class LevelEncoder:
    """The feature is how loud the slice is, 0..1, in every place."""

    name = "level"
    detail = "a level meter"
    lanes = 1
    inputs: tuple[TensorSpec, ...] = (MEL,)
    outputs: tuple[TensorSpec, ...] = (FEATURE,)

    def run(self, *arrays: FloatArray) -> FloatArray:
        level = (arrays[0].max() + 4) / 8
        return np.full((1, 512), level, np.float32)


def small_avatar(folder: Path, name: str = "tiny") -> Avatar:
    return make_avatar(folder, Parts(12, WIDTH, HEIGHT), name=name)


def costly_face(avatar: Avatar, call_ms: float = 0.0, frame_ms: float = 0.0) -> tuple[Face, CostlyGenerator]:
    generator = CostlyGenerator(call_ms, frame_ms)
    return Face(avatar, Networks(generator, LevelEncoder())), generator


@contextmanager
def running(*faces: Face, **options: Any) -> Iterator[Engine]:
    """An engine that draws."""
    engine = Engine(faces, **options)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


@contextmanager
def serving(
    engine: Engine,
    policy: Policy | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    doors: Sequence[Door] = (),
    attachments: Sequence[Attach] = (),
    port: int = 0,
) -> Iterator[str]:
    """The doors of ``engine`` on a port of this machine, 0 for any; gives ``127.0.0.1:PORT``."""
    policy = policy or Policy(limits=Limits(requests_per_second=10_000))
    app = create_app(engine, policy, doors, attachments)
    listening, bound = server(app, policy.limits, certificate, key), bind("127.0.0.1", port)
    thread = threading.Thread(target=listening.run, args=([bound],), daemon=True)
    thread.start()
    try:
        until(lambda: listening.started or not thread.is_alive())
        yield address_of(bound)
    finally:
        listening.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def until(done: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is so; fail if it does not become so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def noise(seconds: float, rate: int = 16_000, level: float = 0.2, channels: int = 1) -> FloatArray:
    count = round(seconds * rate)
    return (np.random.default_rng(3).uniform(-1, 1, (count, channels)) * level).astype(np.float32)


def raw(address: str, data: bytes) -> socket.socket:
    """A connection that has sent ``data`` and nothing more."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), PATIENCE)
    connection.sendall(data)
    return connection


def ended(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side ends the connection in so many seconds."""
    connection.settimeout(seconds)
    with suppress(ConnectionResetError):
        try:
            while connection.recv(65536):
                pass
        except TimeoutError:
            return False
    return True
