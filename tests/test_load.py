"""The tool that measures load and faults: in this process on networks of known cost, and whole as a command."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lipwright.contract import FPS
from lipwright.serve.listen import PatientHttp
from lipwright.serve.protocol import Kind
from lipwright.serve.safety import Limits, Policy
from live import costly_face, noise, running, serving, small_avatar
from test_render import write_wav
from tools.load import faults, process
from tools.load.__main__ import measure
from tools.load.client import PERCENTILES, Place, RefusedError, Seen, crowd, speech, summed, watched
from tools.load.faults import Outcome
from tools.load.process import NotStartedError, Server
from tools.load.process import serving as started
from tools.load.report import markdown

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent
LINUX = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads what a process holds from /proc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """In this process: its holdings are those of the tests."""
    face, _ = costly_face(small_avatar(tmp_path_factory.mktemp("load")))
    policy = Policy(limits=Limits(hello_seconds=1.0))
    with running(face, sessions=4) as engine, serving(engine, policy) as address:
        yield Server(os.getpid(), address, ())


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small server lets go of what it held sooner than one that must be measured."""
    monkeypatch.setattr(process, "SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(PatientHttp, "head_seconds", 1.0)


@pytest.fixture
def place(server: Server) -> Place:
    return Place(server.address, "tiny")


def undisturbed(suffer: Callable[[], Outcome]) -> Outcome:
    """What a fault did while the machine itself never stood still: three tries, then as it is."""
    for _ in range(2):
        outcome = suffer()
        if outcome.machine_gap_ms < 1000:
            return outcome
    return suffer()


def test_a_machine_that_stands_still_is_noticed_and_a_busy_process_is_not() -> None:
    with process.pulse() as machine:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
    assert 0.01 <= machine.longest_gap < 0.4
    with process.pulse() as machine:
        os.kill(machine.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(machine.pid, signal.SIGCONT)
    assert machine.longest_gap >= 0.5


def test_what_was_seen_is_counted() -> None:
    seen = Seen(since=time.monotonic() - 2)
    for sequence in (5, 6, 9):
        seen.note(Kind.SOUND, sequence)
    seen.note(Kind.JPEG, 5)
    seen.until = seen.since + 2
    assert (seen.missing, seen.pictures, seen.pictures_a_second) == (2, 1, 0.5)
    assert Seen(since=0.0, until=2.0).missing == 50, "all of them, where nothing came"
    assert summed([seen, seen], [{"latency_ms_p50": 7.0}, {"latency_ms_p50": 9.0}]).latency_ms["p50"] == 9


@LINUX
def test_microphones_are_held_and_the_next_is_refused(server: Server, place: Place, tmp_path: Path) -> None:
    sound = speech(write_wav(tmp_path / "words.wav", noise(2, 22_050), 22_050))
    assert abs(len(sound) - 2 * 2 * 16_000) < 100

    async def measured() -> None:
        began = time.monotonic()
        async with crowd(place, sound, 3, 2) as clients:
            seen = [client.seen for client in clients]
            load = await watched(clients, 1.5)
            assert (load.sessions, load.missing) == (3, 0)
            for own in seen:
                assert 0 < own.pictures <= len(own.sequences) + 1, "no sound has more than its picture"
                assert own.sequences[-1] <= (time.monotonic() - began) * FPS, "nothing comes before its time"
            assert load.pictures_a_second == min(own.pictures_a_second for own in seen)
            assert load.latency_ms["p99"] >= load.latency_ms["p50"] > 400, "look-ahead and jitter buffer"
        with pytest.raises(RefusedError, match="full"):
            async with crowd(place, sound, 5, 1):
                pass

    asyncio.run(measured())
    assert server.seconds_until(lambda: server.sessions == 0) < 10


@LINUX
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (faults.killed, {}),
        (faults.half_open, {"ended by the server": faults.HALF_OPEN}),
        (faults.oversized, {"closed 1009": 2, "status 413": 1, "status 400": 1}),
    ],
)
def test_nobody_notices_a_fault(server: Server, place: Place, fault: faults.Fault, told: dict[str, int]) -> None:
    outcome = undisturbed(lambda: asyncio.run(faults.suffer(server, place, fault)))
    assert outcome.answers == told
    assert outcome.missing == 0
    assert outcome.frames > 0
    assert outcome.freed_seconds is None or outcome.freed_seconds < 10
    assert outcome.after.files <= outcome.before.files + 2


@LINUX
def test_connects_leave_nothing(server: Server, place: Place) -> None:
    figures = asyncio.run(faults.connects(server, place, 20))
    assert figures["freed_seconds"] < 10
    assert figures["after"]["files"] <= figures["before"]["files"] + 2
    assert figures["after"]["threads"] <= figures["before"]["threads"] + 2
    table = markdown({"machine": MACHINE, "connects": figures})
    assert "| 20 connects and disconnects in" in table


def test_the_tables_hold_what_was_measured() -> None:
    step = {
        "sessions": 2,
        "pictures_a_second": 25.0,
        "missing": 0,
        "latency_ms": {"p50": 500.4, "p95": 510, "p99": 530},
    }
    many = step | {
        "sessions": 3,
        "pictures_a_second": 20.0,
        "latency_ms": dict.fromkeys(PERCENTILES, math.nan),
    }
    holdings = {"memory_mib": 400.4, "files": 30, "threads": 12}
    minutes = [step | holdings | {"minute": k, "memory_mib": 380.0 + 10 * min(k, 2)} for k in range(4)]
    fault: dict[str, Any] = {"frames": 900, "missing": 0, "undrawn": 3, "longest_gap_ms": 61.2, "freed_seconds": None}
    fault |= {"answers": {"closed 1009": 2, "status 413": 1}, "before": holdings, "after": holdings | {"files": 31}}
    lines = markdown(
        {
            "machine": MACHINE,
            "held full": {"held": 2, "server_says": 1, "steps": [step, many]},
            "held fast": {"error": "there is none"},
            "held slow": {"held": 0, "server_says": 1, "steps": [many]},
            "soak full": {"sessions": 2, "minutes": minutes},
            "connects": {"error": "it was refused"},
            "faults fast": {"a flood": fault, "a cut": fault | {"freed_seconds": 4.24}},
        }
    ).splitlines()
    assert "an abacus, 2 cores, the server on cores 0,1" in lines[0]
    assert "| full | 2 | 1 | 500 | 510 | 530 |" in lines
    assert "| fast | there is none | | | | |" in lines
    assert "| slow | 0 | 1 | - | - | - |" in lines
    assert "| 4 minutes of 2 speaking (full) | 390 -> 400 | 30 -> 30 | 12 -> 12 | 25.0 | 0 |" in lines
    told = "400 -> 400 | 30 -> 31 | 12 -> 12 | 2 x closed 1009, 1 x status 413 |"
    assert f"| a flood | 0 of 900 | 3 | 61 |  | {told}" in lines
    assert f"| a cut | 0 of 900 | 3 | 61 | 4.2 | {told}" in lines
    for table in "\n".join(lines).split("\n\n")[1:]:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_a_part_that_failed_is_tried_again_and_one_that_was_measured_is_not(tmp_path: Path) -> None:
    tried: list[str] = []

    def refused() -> dict[str, object]:
        tried.append("refused")
        raise RefusedError("full")

    def done() -> dict[str, object]:
        tried.append("done")
        return {"held": 1}

    results: dict[str, object] = {}
    for _ in range(2):
        measure({"one": refused, "two": done}, results, tmp_path / "load.json")
    assert tried == ["refused", "done", "refused"]
    assert json.loads((tmp_path / "load.json").read_text()) == {"one": {"error": "full"}, "two": {"held": 1}}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lipwright", "serve", str(tmp_path / "nobody.avatar")]
    with pytest.raises(NotStartedError, match=r"nobody\.avatar"), started(command):
        pass


MACHINE = {"processor": "an abacus", "cores": 2, "server_cores": "0,1", "lipwright": "0", "date": "2026-01-31"}


@LINUX
@pytest.mark.slow
def test_the_whole_table(tmp_path: Path) -> None:
    """Everything on a small avatar, with the networks' real runtimes and a server of its own for each part."""
    avatar, file = small_avatar(tmp_path), tmp_path / "load.json"
    command = [sys.executable, "-m", "tools.load", "all", "--avatar", str(avatar.path), "--json", str(file)]
    command += ["--quality", "full", "--most", "2", "--seconds", "5", "--soak-minutes", "3", "--connects", "200"]
    command += ["--serve=--runtime onnxruntime"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=1500)
    results = json.loads(file.read_text(encoding="utf-8"))
    assert set(results) == {"machine", "held full", "faults full", "connects", "soak full"}
    assert all(fault["missing"] == 0 for fault in results["faults full"].values()), done.stdout
    for before, after in (
        (results["connects"]["before"], results["connects"]["after"]),
        (results["soak full"]["minutes"][0], results["soak full"]["minutes"][-1]),
    ):
        assert after["memory_mib"] - before["memory_mib"] < 16
        assert after["files"] <= before["files"] + 2
        assert after["threads"] <= before["threads"] + 2
    assert results["faults full"]["a model that raises in the middle"]["answers"] == {"closed 1011": 1}
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    assert again.stdout == done.stdout, "what was measured is not measured again"
