"""What others notice while something goes wrong: lost clients, half-open connections, garbage, a model that raises."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tools.load.client import PATIENCE, Place, RefusedError, let_in, speech
from tools.load.process import Holdings, Server, pulse

#: Clients that are watched meanwhile. They listen and say nothing, so that they cost one drawing all together.
WATCHERS = 2
#: What a fault that is over at once would do to others is seen in the frames behind it.
AFTERWARDS_SECONDS = 0.5
#: Connections that are left half open, and pieces of garbage of each kind.
HALF_OPEN = 90
PIECES = 200
#: A pause between pieces of garbage, so that they get past the limit on requests.
PAUSE_SECONDS = 0.025
#: Larger than any limit of the server's.
HUGE = 3 * 2**20
#: A client in a process of its own, which can be killed or stopped.
VICTIM = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], max_size=None) as connection:
    connection.send(sys.argv[2])
    connection.recv()
    print("in", flush=True)
    while True:
        connection.recv()
"""


@dataclass(frozen=True)
class Outcome:
    """What a fault did."""

    frames: int
    """That those who watched got."""
    missing: int
    """Frames that they did not get."""
    undrawn: int
    """Frames without a picture of their own."""
    longest_gap_ms: float
    """Between two frames."""
    machine_gap_ms: float
    """That the machine itself kept a sleeping process waiting: where it is as long, the fault did nothing."""
    freed_seconds: float | None
    """Until what the faulty client held was free."""
    answers: dict[str, int]
    """What the faulty clients were told, and how often."""
    before: Holdings
    after: Holdings


Fault = Callable[[Server, Place], Awaitable[tuple[float | None, dict[str, int]]]]


async def suffer(server: Server, place: Place, fault: Fault) -> Outcome:
    """Let a fault happen while others watch."""
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(let_in(place)) for _ in range(WATCHERS)]
        await asyncio.sleep(1)
        before = await asyncio.to_thread(server.settled)
        with pulse() as machine:
            for watcher in watchers:
                watcher.take()
            freed, answers = await fault(server, place)
            await asyncio.sleep(AFTERWARDS_SECONDS)
            seen = [watcher.take() for watcher in watchers]
        after = await asyncio.to_thread(server.settled)
    frames = sum(len(one.sequences) for one in seen)
    return Outcome(
        frames,
        sum(one.missing for one in seen),
        frames - sum(one.pictures for one in seen),
        round(max(one.longest_gap for one in seen) * 1000, 1),
        round(machine.longest_gap * 1000, 1),
        None if freed is None else round(freed, 2),
        answers,
        before,
        after,
    )


@contextmanager
def victim(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A client in a process of its own that was let in."""
    command = [sys.executable, "-c", VICTIM, place.url, place.hello()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "in\n":
                raise RefusedError("the client was not let in")
            yield process
        finally:
            process.kill()


def _without(server: Server, place: Place, how: signal.Signals) -> float:
    with victim(place) as process:
        process.send_signal(how)
        return server.seconds_until(lambda: server.sessions == WATCHERS)


async def killed(server: Server, place: Place) -> tuple[float | None, dict[str, int]]:
    """``kill -9`` of a client."""
    return await asyncio.to_thread(_without, server, place, signal.SIGKILL), {}


async def silent(server: Server, place: Place) -> tuple[float | None, dict[str, int]]:
    """A client whose process stands still: it is as silent as one whose cable was cut."""
    return await asyncio.to_thread(_without, server, place, signal.SIGSTOP), {}


async def half_open(server: Server, place: Place) -> tuple[float | None, dict[str, int]]:
    """Connections that send nothing, half a request, or an upgrade without a hello."""
    head = f"GET /v1/avatars/{place.avatar}/stream HTTP/1.1\r\nHost: {place.address}\r\n".encode()
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    whole = head + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    began = asyncio.get_running_loop().time()
    sent = [data for data in (b"", head, whole) for _ in range(HALF_OPEN // 3)]
    ended = await asyncio.gather(*(_ended(place.address, data) for data in sent))
    return max(ended) - began, {"ended by the server": len(ended)}


async def _ended(address: str, data: bytes) -> float:
    """When the server has ended a connection that sent this and nothing more."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(data)
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return asyncio.get_running_loop().time()


async def garbage(_server: Server, place: Place) -> tuple[float | None, dict[str, int]]:
    """Random bytes instead of requests, and random messages in sessions; the seed is always the same."""
    rng = random.Random(7)
    answers: dict[str, int] = {}
    for _ in range(PIECES):
        first = [b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b""]
        await _thrown(place.address, rng.choice(first) + rng.randbytes(rng.randrange(1, 3000)))
        try:
            answer = await asyncio.wait_for(_garbled(place, rng), PATIENCE)
        except (InvalidHandshake, OSError, TimeoutError) as error:
            answer = type(error).__name__
        answers[answer] = answers.get(answer, 0) + 1
        await asyncio.sleep(PAUSE_SECONDS)
    return None, answers


async def _thrown(address: str, data: bytes) -> None:
    host, port = address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(data)
    with suppress(ConnectionError):
        await writer.drain()
    writer.close()


async def _garbled(place: Place, rng: random.Random) -> str:
    """A session with random messages, some of them instead of the hello; how it was ended."""
    async with connect(place.url, max_size=None) as connection:
        with suppress(ConnectionClosed):
            if rng.random() < 0.7:
                await connection.send(place.hello())
            for _ in range(5):
                text = "".join(rng.choices('{}[]":,typeinrup\\0', k=rng.randrange(60)))
                await connection.send(text if rng.random() < 0.5 else rng.randbytes(2 * rng.randrange(1000)))
            async for _data in connection:
                if rng.random() < 0.2:
                    await connection.close()
    return f"closed {connection.close_code}"


async def oversized(_server: Server, place: Place) -> tuple[float | None, dict[str, int]]:
    """Messages and uploads above the limits."""
    answers: dict[str, int] = {}
    for data in (bytes(HUGE), "x" * HUGE):
        async with connect(place.url, max_size=None) as connection:
            await connection.send(place.hello())
            await connection.recv()
            with suppress(ConnectionClosed):
                await connection.send(data)
                async for _data in connection:
                    pass
        answer = f"closed {connection.close_code}"
        answers[answer] = answers.get(answer, 0) + 1
    upload = f"POST /v1/avatars/{place.avatar}/render HTTP/1.1\r\nHost: {place.address}\r\n"
    upload += f"Content-Length: {10**12}\r\n\r\n"
    answers[f"status {await _status(place.address, upload.encode())}"] = 1
    long_head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * HUGE + b"\r\n\r\n"
    answers[f"status {await _status(place.address, long_head)}"] = 1
    return None, answers


async def _status(address: str, request: bytes) -> str:
    """Of the answer to a request."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    line = b""
    with suppress(ConnectionError, TimeoutError):
        writer.write(request)
        line = await asyncio.wait_for(reader.readline(), PATIENCE)
    writer.close()
    return line.split()[1].decode() if len(line.split()) > 1 else "none, closed"


async def raising(_server: Server, place: Place, sound: Path) -> tuple[float | None, dict[str, int]]:
    """Somebody speaks to a model that raises whenever somebody speaks (``tools.load.broken``)."""
    began = asyncio.get_running_loop().time()
    async with let_in(place) as client:
        speaking = asyncio.create_task(client.speak(speech(sound), PATIENCE))
        while client.closed is None and asyncio.get_running_loop().time() - began < PATIENCE:
            await asyncio.sleep(0.05)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    return asyncio.get_running_loop().time() - began, {f"closed {client.closed}": 1}


async def connects(server: Server, place: Place, count: int) -> dict[str, Any]:
    """So many clients one after the other: hello, two messages, gone; every third of them without a goodbye."""
    loop = asyncio.get_running_loop()
    await _visit(place, politely=True)
    before, began = await asyncio.to_thread(server.settled), loop.time()
    for k in range(count):
        await _visit(place, politely=k % 3 != 0)
    seconds = loop.time() - began
    left = await asyncio.to_thread(server.seconds_until, lambda: server.sessions == 0)
    after = await asyncio.to_thread(server.settled)
    return {
        "count": count,
        "seconds": round(seconds, 1),
        "freed_seconds": round(left, 2),
        "before": asdict(before),
        "after": asdict(after),
    }


async def _visit(place: Place, politely: bool) -> None:
    connection = await connect(place.url, max_size=None)
    await connection.send(place.hello())
    for expected in ("ready", None):
        data = await asyncio.wait_for(connection.recv(), PATIENCE)
        if expected and json.loads(data)["type"] != expected:
            raise RefusedError(json.loads(data)["message"])
    if politely:
        await connection.close()
    else:
        connection.transport.abort()


#: By the name that stands in the table.
FAULTS: dict[str, Fault] = {
    "`kill -9` of a client": killed,
    "a client that stands still (its cable is cut)": silent,
    f"{HALF_OPEN} half-open connections": half_open,
    f"{PIECES} garbled requests and as many garbled sessions": garbage,
    "messages, uploads and heads above the limits": oversized,
}
