"""A `lipwright serve` of our own, and what its process holds (Linux)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipwright.serve.safety import TOKEN_VARIABLE

#: Seconds that a server may take to open its networks and measure them.
START_SECONDS = 300.0
STOP_SECONDS = 20.0
#: Seconds after the last client in which everything that it held may go.
SETTLE_SECONDS = 3.0
SERVE = (sys.executable, "-m", "lipwright", "serve")
#: Sleeps until its input ends, then prints the longest time between two awakenings.
SLEEPER = """
import select, sys, time
longest, last = 0.0, time.monotonic()
print("asleep", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    now = time.monotonic()
    longest, last = max(longest, now - last), now
print(max(longest, time.monotonic() - last))
"""


class NotStartedError(Exception):
    """The server did not start; the message is its own."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds."""

    memory_mib: float
    files: int
    threads: int


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    pid: int
    address: str
    """HOST:PORT."""
    said: tuple[str, ...]
    """What it printed at its start."""

    def holdings(self) -> Holdings:
        """Memory, open files and threads now."""
        process = Path(f"/proc/{self.pid}")
        pages = int((process / "statm").read_text().split()[1])
        files, threads = (len(list((process / kind).iterdir())) for kind in ("fd", "task"))
        return Holdings(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1), files, threads)

    def settled(self) -> Holdings:
        """The same when those who have left hold nothing any more."""
        time.sleep(SETTLE_SECONDS)
        return self.holdings()

    def get(self, path: str) -> str:
        """The answer to a request."""
        request = urllib.request.Request(f"http://{self.address}{path}")
        if token := os.environ.get(TOKEN_VARIABLE):
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=STOP_SECONDS) as answer:
            return str(answer.read().decode())

    def avatars(self) -> dict[str, Any]:
        """What it holds, and how many sessions it takes."""
        found: dict[str, Any] = json.loads(self.get("/v1/avatars"))
        return found

    @property
    def sessions(self) -> int:
        """Open now."""
        return int(self.avatars()["sessions"])

    def seconds_until(self, done: Callable[[], bool], most: float = STOP_SECONDS) -> float:
        """How long until something is so; infinity if it does not become so."""
        began = time.monotonic()
        while not done():
            if time.monotonic() - began > most:
                return float("inf")
            time.sleep(0.05)
        return time.monotonic() - began


@contextmanager
def serving(command: Sequence[str], cores: str | None = None) -> Iterator[Server]:
    """A server of its own on a port that the system chooses, on these cores (``0,1``) if they are named.

    Raises:
        NotStartedError: it ended before it listened.
    """
    pinned = ["taskset", "-c", cores] if cores else []
    with subprocess.Popen([*pinned, *command, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _listening(process)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass
class Pulse:
    """Whether the machine itself stood still."""

    pid: int
    """Of the process that sleeps."""
    longest_gap: float = 0.0
    """Seconds that a process which only sleeps was kept waiting, at the longest; known once the watch is over."""


@contextmanager
def pulse() -> Iterator[Pulse]:
    """Watch over the machine from a process of its own: what happens in this one and in a server does not count."""
    command = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        found = Pulse(process.pid)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield found
            found.longest_gap = float(process.communicate()[0])
        finally:
            process.kill()


def _listening(process: subprocess.Popen[str]) -> Server:
    assert process.stderr is not None
    lines: list[str] = []
    waiting = threading.Timer(START_SECONDS, process.kill)
    waiting.start()
    for line in process.stderr:
        lines.append(line.strip())
        if "http://" in line:
            break
    waiting.cancel()
    if not lines or "http://" not in lines[-1]:
        raise NotStartedError(lines[-1] if lines else "the server ended without a word")
    # What it says later must not fill the pipe.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return Server(process.pid, lines[-1].split("http://")[1].split()[0].rstrip("/"), tuple(lines))
