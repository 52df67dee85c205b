"""Measure a running `lipwright serve`: sessions held, latency at that load, connects, soak. Prints a Markdown table.

    lipwright serve --sessions 64 &
    python -m tools.load held  --avatar presenter
    python -m tools.load soak  --avatar presenter --sessions 2 --minutes 30 --pid PID
    python -m tools.load connects --avatar presenter --count 1000 --pid PID

``held`` opens more and more microphones, each in real time, until frames are no longer all drawn. The server's own
limit must be out of the way (``--sessions``); run the client on other cores, or give the server its own
(``taskset -c 0,1 lipwright serve``). The token is read from LIPWRIGHT_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
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

RATE = 16_000
PACKET_SECONDS = 0.02
#: Sessions count as held if so many of their pictures were drawn and came.
HELD_SHARE = 0.99
#: Seconds before figures count: jitter buffers settle.
WARM_SECONDS = 3.0
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass
class Listener:
    """What one session saw."""

    sounds: int = 0
    pictures: int = 0
    stats: dict[str, Any] = field(default_factory=dict)


def speech(path: Path) -> bytes:
    """A sound as 16 kHz mono s16le."""
    with SoundReader(path) as reader:
        resampler = Resampler(reader.rate, RATE, 1)
        parts = [resampler.push(_mono(chunk)) for chunk in reader]
    return pcm(np.concatenate([*parts, resampler.flush()]), "s16le")


def _mono(chunk: FloatArray) -> FloatArray:
    return np.ascontiguousarray(chunk.mean(axis=1, keepdims=True, dtype=np.float32))


def hello(options: argparse.Namespace) -> str:
    """The first message of a microphone."""
    return json.dumps(
        {
            "type": "hello",
            "version": 1,
            "token": os.environ.get("LIPWRIGHT_TOKEN"),
            "mode": "live",
            "audio": {"format": "s16le", "rate": RATE, "channels": 1},
            "picture": {"format": options.picture},
            "lookahead": options.lookahead,
        }
    )


async def speak(connection: ClientConnection, sound: bytes, seconds: float) -> None:
    """A microphone: packets of 20 ms in real time, the sound again and again."""
    size = round(PACKET_SECONDS * RATE) * 2
    began = time.monotonic()
    for k in range(round(seconds / PACKET_SECONDS)):
        start = k * size % (len(sound) - size)
        await connection.send(sound[start - start % 2 :][:size])
        await asyncio.sleep(max(began + (k + 1) * PACKET_SECONDS - time.monotonic(), 0))


async def listen(connection: ClientConnection, listener: Listener, begin: float, end: float) -> None:
    """Count what comes between two times."""
    async for data in connection:
        if isinstance(data, str):
            message = json.loads(data)
            if message["type"] == "stats":
                listener.stats = message
        elif begin <= time.monotonic() < end:
            kind = unpack(data).kind
            listener.sounds += kind is Kind.SOUND
            listener.pictures += kind is not Kind.SOUND


async def session(options: argparse.Namespace, sound: bytes, seconds: float) -> Listener:
    """One microphone for so many seconds; what it saw after the first three."""
    listener = Listener()
    async with connect(f"{options.server}/v1/avatars/{options.avatar}/stream", max_size=None) as connection:
        await connection.send(hello(options))
        ready = json.loads(await connection.recv())
        if ready["type"] != "ready":
            raise SystemExit(f"the server says: {ready['message']}")
        now = time.monotonic()
        task = asyncio.create_task(listen(connection, listener, now + WARM_SECONDS, now + seconds))
        await speak(connection, sound, seconds)
        await connection.send('{"type": "stats"}')
        await asyncio.sleep(0.5)
        task.cancel()
        with suppress(asyncio.CancelledError, ConnectionClosed):
            await task
    return listener


async def crowd(options: argparse.Namespace, sound: bytes, sessions: int, seconds: float) -> list[Listener]:
    """So many microphones at once, each somewhere else in the sound."""
    turned = [sound[2 * RATE * k % len(sound) :] + sound[: 2 * RATE * k % len(sound)] for k in range(sessions)]
    return list(await asyncio.gather(*(session(options, own, seconds) for own in turned)))


def row(sessions: int, listeners: Sequence[Listener], seconds: float) -> tuple[str, bool]:
    """A line of the table, and whether all frames were drawn and came."""
    due = (seconds - WARM_SECONDS) * FPS
    shares = [listener.pictures / due for listener in listeners]
    p50, p95, p99 = (max(x.stats.get(f"latency_ms_p{p}", np.nan) for x in listeners) for p in (50, 95, 99))
    line = f"| {sessions} | {min(shares) * FPS:.1f} | {p50:.0f} | {p95:.0f} | {p99:.0f} |"
    return line, min(shares) >= HELD_SHARE


def held(options: argparse.Namespace) -> None:
    """More and more sessions until they are no longer held."""
    sound = speech(options.sound)
    _say("| sessions | pictures a second, the slowest | latency ms p50 | p95 | p99 |")
    _say("|---|---|---|---|---|")
    most, sessions = 0, 1
    while True:
        listeners = asyncio.run(crowd(options, sound, sessions, options.seconds))
        line, all_came = row(sessions, listeners, options.seconds)
        _say(line)
        if not all_came or sessions >= options.sessions:
            break
        most, sessions = sessions, sessions + 1
    _say(f"\n{most if not all_came else sessions} sessions held at {FPS} pictures a second")


def soak(options: argparse.Namespace) -> None:
    """The same sessions for a long time, with the server's memory."""
    sound = speech(options.sound)
    _say("| minute | memory MiB | pictures a second, the slowest | latency ms p50 | p95 | p99 |")
    _say("|---|---|---|---|---|---|")
    for minute in range(1, options.minutes + 1):
        listeners = asyncio.run(crowd(options, sound, options.sessions, 60.0))
        line, _ = row(options.sessions, listeners, 60.0)
        _say(f"| {minute} | {memory(options.pid)} |{line.split('|', 2)[2]}")


def connects(options: argparse.Namespace) -> None:
    """Connect, say hello, listen to one frame, leave."""
    before, began = memory(options.pid), time.monotonic()
    asyncio.run(_connect_again(options))
    seconds = time.monotonic() - began
    _say("| connects | seconds | memory MiB before | after |")
    _say("|---|---|---|---|")
    _say(f"| {options.count} | {seconds:.0f} | {before} | {memory(options.pid)} |")


async def _connect_again(options: argparse.Namespace) -> None:
    url = f"{options.server}/v1/avatars/{options.avatar}/stream"
    for _ in range(options.count):
        async with connect(url, max_size=None) as connection:
            await connection.send(hello(options))
            for _ in range(2):
                await connection.recv()


def memory(pid: int | None) -> str:
    """What the server holds (Linux), MiB."""
    if pid is None:
        return "-"
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return f"{pages * PAGE / 2**20:.0f}"


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("held", "soak", "connects"))
    parser.add_argument("--server", default="ws://127.0.0.1:8700")
    parser.add_argument("--avatar", default="presenter")
    parser.add_argument("--sound", type=Path, default=Path("src/lipwright/data/demo.flac"))
    parser.add_argument("--picture", choices=("jpeg", "h264"), default="jpeg")
    parser.add_argument("--lookahead", type=int)
    parser.add_argument("--sessions", type=int, default=16, help="held: at most; soak: so many")
    parser.add_argument("--seconds", type=float, default=15.0, help="held: of each step")
    parser.add_argument("--minutes", type=int, default=30, help="soak")
    parser.add_argument("--count", type=int, default=1000, help="connects")
    parser.add_argument("--pid", type=int, help="the server's process, for its memory")
    options = parser.parse_args()
    {"held": held, "soak": soak, "connects": connects}[options.what](options)


if __name__ == "__main__":
    main()
