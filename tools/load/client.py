"""Clients over the WebSocket: microphones in real time, and watchers who notice what others suffer."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lipwright.audio.decode import SoundReader
from lipwright.contract import FPS, FloatArray
from lipwright.libav import Resampler
from lipwright.serve.protocol import Kind, pcm, unpack
from lipwright.serve.safety import TOKEN_VARIABLE

RATE = 16_000
PACKET_SECONDS = 0.02
PACKET_BYTES = round(PACKET_SECONDS * RATE) * 2
#: Seconds before figures count: jitter buffers settle.
WARM_SECONDS = 3.0
#: Seconds that answers may take.
PATIENCE = 30.0


class RefusedError(Exception):
    """The server did not let a client in."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which avatar of which server, and what is asked of it."""

    address: str
    """HOST:PORT."""
    avatar: str
    picture: str = "jpeg"

    @property
    def url(self) -> str:
        return f"ws://{self.address}/v1/avatars/{self.avatar}/stream"

    def hello(self) -> str:
        """The first message of a microphone."""
        sound = {"format": "s16le", "rate": RATE, "channels": 1}
        asked = {"mode": "live", "audio": sound, "picture": {"format": self.picture}}
        return json.dumps({"type": "hello", "version": 1, "token": os.environ.get(TOKEN_VARIABLE), **asked})


def speech(path: Path) -> bytes:
    """A sound as 16 kHz mono s16le."""
    with SoundReader(path) as reader:
        resampler = Resampler(reader.rate, RATE, 1)
        parts = [resampler.push(_mono(chunk)) for chunk in reader]
    return pcm(np.concatenate([*parts, resampler.flush()]), "s16le")


def _mono(chunk: FloatArray) -> FloatArray:
    return np.ascontiguousarray(chunk.mean(axis=1, keepdims=True, dtype=np.float32))


@dataclass
class Seen:
    """What one client got, since ``since``."""

    since: float = field(default_factory=time.monotonic)
    until: float | None = None
    """When counting ended; None: it goes on."""
    sequences: list[int] = field(default_factory=list)
    """Of the frames, by their sound."""
    pictures: int = 0
    longest_gap: float = 0.0
    """Between two frames, seconds."""
    last: float | None = None
    """When the last one came."""

    def note(self, kind: Kind, sequence: int) -> None:
        """A binary message has come."""
        if kind is not Kind.SOUND:
            self.pictures += 1
            return
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - (self.last or now))
        self.last = now
        self.sequences.append(sequence)

    @property
    def seconds(self) -> float:
        return (self.until or time.monotonic()) - self.since

    @property
    def pictures_a_second(self) -> float:
        return self.pictures / self.seconds

    @property
    def missing(self) -> int:
        """Frames that never came."""
        if not self.sequences:
            return round(self.seconds * FPS)
        return self.sequences[-1] - self.sequences[0] + 1 - len(self.sequences)


class Client:
    """One that was let in, and what it sees."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen = Seen()
        self.stats: dict[str, Any] = {}
        self.closed: int | None = None
        """The server's close code, once it has closed."""

    async def listen(self) -> None:
        """Note what comes, until the connection ends."""
        try:
            async for data in self.connection:
                if isinstance(data, bytes):
                    message = unpack(data)
                    self.seen.note(message.kind, message.sequence)
                elif (told := json.loads(data))["type"] == "stats":
                    self.stats = told
        except ConnectionClosed:
            pass
        self.closed = self.connection.close_code

    async def speak(self, sound: bytes, seconds: float) -> None:
        """A microphone: packets of 20 ms in real time, the sound again and again."""
        began = time.monotonic()
        with suppress(ConnectionClosed):
            for k in range(round(seconds / PACKET_SECONDS)):
                start = k * PACKET_BYTES % (len(sound) - PACKET_BYTES)
                await self.connection.send(sound[start - start % 2 :][:PACKET_BYTES])
                await asyncio.sleep(max(began + (k + 1) * PACKET_SECONDS - time.monotonic(), 0))

    def take(self) -> Seen:
        """What was seen since the last time; counting begins anew."""
        seen, self.seen = self.seen, Seen()
        seen.until = time.monotonic()
        return seen

    async def ask(self) -> dict[str, Any]:
        """The server's figures of this session."""
        self.stats = {}
        await self.connection.send('{"type": "stats"}')
        end = time.monotonic() + PATIENCE
        while not self.stats and self.closed is None and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return self.stats


@asynccontextmanager
async def let_in(place: Place) -> AsyncIterator[Client]:
    """A client that listens.

    Raises:
        RefusedError: the server said why not.
    """
    async with connect(place.url, max_size=None, ping_interval=None) as connection:
        await connection.send(place.hello())
        ready = json.loads(await asyncio.wait_for(connection.recv(), PATIENCE))
        if ready["type"] != "ready":
            raise RefusedError(ready["message"])
        client = Client(connection)
        listening = asyncio.create_task(client.listen())
        try:
            yield client
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


PERCENTILES = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Load:
    """What so many microphones at once saw."""

    sessions: int
    pictures_a_second: float
    """Of the session that saw least."""
    missing: int
    """Frames that never came, of all together."""
    latency_ms: dict[str, float]
    """By percentile, of the session that waited longest."""


def summed(seen: Sequence[Seen], stats: Sequence[dict[str, Any]]) -> Load:
    """The worst of each figure."""
    latency = {name: max(float(own.get(f"latency_ms_{name}", np.nan)) for own in stats) for name in PERCENTILES}
    return Load(len(seen), min(one.pictures_a_second for one in seen), sum(one.missing for one in seen), latency)


@asynccontextmanager
async def crowd(place: Place, sound: bytes, sessions: int, seconds: float) -> AsyncIterator[list[Client]]:
    """So many microphones at once for at most so many seconds, each somewhere else in the sound; warmed up."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(let_in(place)) for _ in range(sessions)]
        own = [_turned(sound, 2 * RATE * k) for k in range(sessions)]
        speaking = [asyncio.create_task(c.speak(s, WARM_SECONDS + seconds)) for c, s in zip(clients, own, strict=True)]
        try:
            await asyncio.sleep(WARM_SECONDS)
            for client in clients:
                client.take()
            yield clients
        finally:
            for task in speaking:
                task.cancel()
            await asyncio.gather(*speaking, return_exceptions=True)


async def watched(clients: Sequence[Client], seconds: float) -> Load:
    """What they see in the next so many seconds."""
    await asyncio.sleep(seconds)
    seen = [client.take() for client in clients]
    return summed(seen, [await client.ask() for client in clients])


def _turned(sound: bytes, by: int) -> bytes:
    return sound[by % len(sound) :] + sound[: by % len(sound)]
