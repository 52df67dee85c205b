"""The WebSocket door over real sockets: the protocol, interrupts, slow readers, lost clients, garbage, crowds."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lipwright import Avatar
from lipwright.serve.engine import Engine
from lipwright.serve.listen import PING_ANSWER, PING_EVERY
from lipwright.serve.protocol import Flag, Kind, Message, PcmReader, ProtocolError, pcm, unpack
from lipwright.serve.safety import Limits, Policy
from live import (
    HEIGHT,
    PATIENCE,
    WIDTH,
    CostlyGenerator,
    costly_face,
    noise,
    raw,
    running,
    serving,
    small_avatar,
    until,
)
from test_render import write_wav
from tools.load.process import Holdings, Server

pytestmark = pytest.mark.alone

EXAMPLE = Path(__file__).parent.parent / "examples" / "websocket_client.py"
TOKEN = "a-secret-of-many-characters"
LIMITS = Limits(requests_per_second=10_000, hello_seconds=1.5, pushed_seconds=8, message_bytes=400_000)


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return small_avatar(tmp_path_factory.mktemp("websocket"))


@pytest.fixture(scope="module")
def made(avatar: Avatar) -> Iterator[tuple[Engine, CostlyGenerator]]:
    face, generator = costly_face(avatar)
    with running(face, sessions=3, pushed_seconds=LIMITS.pushed_seconds) as engine:
        yield engine, generator


@pytest.fixture(scope="module")
def engine(made: tuple[Engine, CostlyGenerator]) -> Engine:
    return made[0]


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    with serving(engine, Policy(limits=LIMITS)) as found:
        yield found


@pytest.fixture(autouse=True)
def everybody_leaves(engine: Engine) -> Iterator[None]:
    yield
    until(lambda: engine.active == 0, 6)


@contextmanager
def client(address: str, **hello: Any) -> Iterator[tuple[ClientConnection, dict[str, Any]]]:
    """A client that was let in, and the server's ``ready``."""
    with connect(f"ws://{address}/v1/avatars/tiny/stream", max_size=None) as connection:
        connection.send(json.dumps({"type": "hello", "version": 1, "mode": "pushed"} | hello))
        ready = json.loads(connection.recv(PATIENCE))
        assert ready["type"] == "ready", ready
        yield connection, ready


def received(connection: ClientConnection, until_type: str = "", frames: int = 0) -> list[Message | dict[str, Any]]:
    """What comes until a text message of this type, or until so many sound messages."""
    found: list[Message | dict[str, Any]] = []
    sounds = 0
    while not frames or sounds < frames:
        data = connection.recv(PATIENCE)
        message = unpack(data) if isinstance(data, bytes) else json.loads(data)
        found.append(message)
        sounds += isinstance(message, Message) and message.kind is Kind.SOUND
        if isinstance(message, dict) and message["type"] == until_type:
            break
        assert frames or len(found) < 1500, f"no {until_type} in half a minute"
    return found


def of_kind(messages: list[Message | dict[str, Any]], kind: Kind) -> list[Message]:
    return [message for message in messages if isinstance(message, Message) and message.kind is kind]


def heard(messages: list[Message | dict[str, Any]]) -> bytes:
    return b"".join(message.payload for message in of_kind(messages, Kind.SOUND))


def refused(address: str, first: str | bytes | None, path: str = "/v1/avatars/tiny/stream") -> tuple[int, str]:
    """Close code, and the code of the error message before it."""
    errors = []
    with connect(f"ws://{address}{path}") as connection:
        if first is not None:
            connection.send(first)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                errors.append(json.loads(connection.recv(PATIENCE))["code"])
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, errors[-1]


HELLO = {"type": "hello", "version": 1}

# --- the protocol ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["s16le", "f32le"])
def test_pushed_speech_comes_back_whole_with_jpegs(address: str, form: Any) -> None:
    sound = pcm(noise(1.2, 22_050, channels=2), form)
    with client(address, audio={"format": form, "rate": 22_050, "channels": 2}) as (connection, ready):
        for start in range(0, len(sound), 9_999):  # ends in the middle of samples
            connection.send(sound[start : start + 9_999])
        connection.send('{"type": "end"}')
        messages = received(connection, "spoken")
    assert (ready["width"], ready["height"], ready["fps"], ready["lookahead_ms"]) == (WIDTH, HEIGHT, 25, 412.5)
    assert ready["audio"] == {"format": form, "rate": 22_050, "channels": 2}
    assert sound in heard(messages)
    sounds, jpegs = of_kind(messages, Kind.SOUND), of_kind(messages, Kind.JPEG)
    assert [message.sequence for message in sounds] == list(range(sounds[0].sequence, sounds[-1].sequence + 1))
    assert all(message.pts_us == message.sequence * 40_000 for message in sounds)
    assert Flag.LAST in sounds[-1].flags
    picture = cv2.imdecode(np.frombuffer(jpegs[0].payload, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (HEIGHT, WIDTH, 3)
    sequences = {message.sequence for message in sounds}
    assert jpegs
    assert {message.sequence for message in jpegs} <= sequences


def test_h264_units_decode(address: str) -> None:
    with client(address, picture={"format": "h264"}) as (connection, _):
        messages = received(connection, frames=20)
    (config,) = [m for m in messages if isinstance(m, dict)]
    assert config["type"] == "config"
    assert config["codec"].startswith("avc1.42")
    units = of_kind(messages, Kind.H264)
    assert Flag.KEY in units[0].flags
    decoder: Any = av.CodecContext.create("h264", "r")
    pictures = [p for unit in units for p in decoder.decode(av.Packet(unit.payload))] + decoder.decode(None)
    assert len(pictures) == len(units)
    assert (pictures[0].width, pictures[0].height) == (WIDTH, HEIGHT)


def test_a_microphone_is_heard_and_measured(address: str) -> None:
    with client(address, mode="live", lookahead=0, picture={"format": "none"}) as (connection, ready):
        assert ready["lookahead_ms"] == 132.5
        sound = pcm(noise(2.5), "s16le")
        thread = threading.Thread(target=_speak, args=(connection, sound))
        thread.start()
        messages = received(connection, frames=60)
        thread.join()
        connection.send('{"type": "stats"}')
        stats = received(connection, "stats")[-1]
    assert any(Flag.SPEAKING in message.flags for message in of_kind(messages, Kind.SOUND))
    assert not of_kind(messages, Kind.JPEG)
    assert isinstance(stats, dict)
    assert 130 < stats["latency_ms_p50"] <= stats["latency_ms_p95"] <= stats["latency_ms_p99"]


def _speak(connection: ClientConnection, sound: bytes) -> None:
    began = time.monotonic()
    for k in range(0, len(sound), 640):
        connection.send(sound[k : k + 640])
        time.sleep(max(began + (k + 640) / 32_000 - time.monotonic(), 0))


def test_nothing_old_comes_after_interrupted(address: str) -> None:
    with client(address) as (connection, _):
        connection.send(pcm(noise(5), "s16le"))
        received(connection, frames=15)
        connection.send('{"type": "interrupt"}')
        before = received(connection, "interrupted")
        connection.send(pcm(noise(1, level=0.1), "s16le"))
        connection.send('{"type": "end"}')
        after = received(connection, "spoken")
    assert before[-1] == {"type": "interrupted", "generation": 1}
    assert {message.generation for message in after if isinstance(message, Message)} == {1}
    assert pcm(noise(1, level=0.1), "s16le") in heard(after)
    assert after[-1] == {"type": "spoken", "generation": 1}


def test_a_slow_reader_gets_nothing_old_later_than_120_ms_after_an_interrupt(avatar: Avatar) -> None:
    large = costly_face(avatar)[0]
    with running(large, sessions=1) as engine, serving(engine, Policy(limits=LIMITS)) as address:
        host, port = address.split(":")
        raw_socket = sockets.create_connection((host, int(port)))
        raw_socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        with connect(
            f"ws://{address}/v1/avatars/tiny/stream", sock=raw_socket, max_queue=1, close_timeout=1
        ) as connection:
            connection.send(json.dumps(HELLO | {"mode": "pushed", "picture": {"format": "jpeg", "quality": 100}}))
            connection.send(pcm(noise(5), "s16le"))
            for k in range(40):
                connection.recv(PATIENCE)
                time.sleep(0.02)
                if k == 20:
                    (seat,) = engine._seats.values()
                    connection.send('{"type": "interrupt"}')
            assert seat.session.stale_seconds < 0.12
            assert seat.session.generation == 1
        until(lambda: engine.active == 0, 6)


def test_what_waits_to_be_spoken_is_bounded_and_said(address: str) -> None:
    with client(address) as (connection, ready):
        assert ready["limits"]["pushed_seconds"] == 8
        for _ in range(10):
            connection.send(pcm(noise(1), "s16le"))
        error = received(connection, "error")[-1]
        assert isinstance(error, dict)
        assert error["code"] == "too_far_ahead"
        connection.send('{"type": "interrupt"}')
        received(connection, "interrupted")


def test_the_example_saves_what_was_said(address: str, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "speech.wav", noise(1, 8000), 8000)
    command = [sys.executable, str(EXAMPLE), str(sound), str(tmp_path / "out")]
    command += ["--server", f"ws://{address}", "--avatar", "tiny"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    pictures = sorted((tmp_path / "out").glob("*.jpg"))
    assert f"{len(pictures)} pictures of {WIDTH} x {HEIGHT}" in done.stdout
    assert len(pictures) > 5
    assert sound.read_bytes()[44:] in (tmp_path / "out" / "sound.wav").read_bytes()


# --- who is let in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (b"\x00" * 100, "message"),
        ("no json", "message"),
        ("[]", "message"),
        ('{"type": "interrupt"}', "hello"),
        (json.dumps(HELLO | {"version": 2}), "version"),
        (json.dumps(HELLO | {"audio": {"rate": 4000}}), "message"),
        (json.dumps(HELLO | {"audio": {"rate": "16000"}}), "message"),
        (json.dumps(HELLO | {"lookahead": 8}), "message"),
        (json.dumps(HELLO | {"surprise": True}), "message"),
        (None, "hello"),
    ],
)
def test_a_wrong_hello_is_answered_and_closed(address: str, first: str | bytes | None, code: str) -> None:
    assert refused(address, first) == (1008, code)


def test_unknown_avatars_are_refused(address: str) -> None:
    assert refused(address, json.dumps(HELLO), "/v1/avatars/nobody/stream") == (1008, "avatar")


def test_the_token_comes_in_the_hello_or_in_a_header(engine: Engine) -> None:
    with serving(engine, Policy(token=TOKEN, limits=LIMITS)) as address:
        assert refused(address, json.dumps(HELLO)) == (1008, "token")
        assert refused(address, json.dumps(HELLO | {"token": "wrong"})) == (1008, "token")
        with client(address, token=TOKEN):
            pass
        url, bearer = f"ws://{address}/v1/avatars/tiny/stream", {"Authorization": f"Bearer {TOKEN}"}
        with connect(url, additional_headers=bearer) as connection:
            connection.send(json.dumps(HELLO))
            assert json.loads(connection.recv(PATIENCE))["type"] == "ready"


def test_the_next_client_is_told_when_to_come_back(engine: Engine, address: str) -> None:
    with client(address), client(address), client(address):
        assert engine.active == 3
        assert refused(address, json.dumps(HELLO)) == (1013, "full")
    until(lambda: engine.active == 0)
    with client(address):
        pass


# --- what goes wrong ------------------------------------------------------------------------------------------------


def ended_with(connection: ClientConnection) -> tuple[int, str]:
    """Close code, and the code of the error message before it."""
    error = ""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            data = connection.recv(PATIENCE)
            if isinstance(data, str) and (message := json.loads(data))["type"] == "error":
                error = message["code"]
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, error


@pytest.mark.parametrize(
    ("wrong", "end"),
    [
        (np.full(100, np.nan, "<f4").tobytes(), (1007, "sound")),
        (bytes(400_001), (1009, "")),
        ("x" * 400_001, (1009, "")),
        ('{"type": "sing"}', (1008, "message")),
        (json.dumps(HELLO), (1008, "hello")),
    ],
)
def test_garbage_ends_its_own_session_with_a_reason(address: str, wrong: str | bytes, end: tuple[int, str]) -> None:
    with client(address) as (other, _), client(address, audio={"format": "f32le"}) as (connection, _):
        connection.send(wrong)
        assert ended_with(connection) == end
        assert len(of_kind(received(other, frames=5), Kind.SOUND)) == 5


def test_a_flood_of_messages_ends_its_own_session(engine: Engine) -> None:
    limits = Limits(messages_per_second=20, requests_per_second=10_000)
    with serving(engine, Policy(limits=limits)) as address, client(address) as (connection, _):
        with suppress(ConnectionClosed):
            for _ in range(200):
                connection.send(b"")
        assert ended_with(connection) == (1008, "rate")


def test_fuzzed_clients_disturb_nobody(engine: Engine, address: str) -> None:
    rng = random.Random(1)
    with client(address, picture={"format": "none"}) as (good, _):
        sequences: list[int] = []
        reader = threading.Thread(target=_follow, args=(good, sequences))
        reader.start()
        for _ in range(60):
            junk = [
                b"GET /v1/avatars/tiny/stream HTTP/1.1\r\nHost: localhost\r\n" + rng.randbytes(rng.randrange(300)),
                rng.randbytes(rng.randrange(1, 3000)),
                b"POST /v1/avatars/tiny/render HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nx",
            ][rng.randrange(3)]
            with suppress(OSError), raw(address, junk) as connection:
                connection.settimeout(0.01)
                connection.recv(100)
        for _ in range(60):
            with suppress(ConnectionClosed), client(address) as (bad, _):
                for _ in range(5):
                    text = "".join(rng.choices('{}[]":,typeinrup\\0', k=rng.randrange(60)))
                    bad.send(text if rng.random() < 0.5 else rng.randbytes(rng.randrange(2000)))
        until(lambda: engine.active == 1)
        assert engine.ready
        good.send('{"type": "bye"}')
        reader.join(PATIENCE)
    assert len(sequences) > 10
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def _follow(connection: ClientConnection, sequences: list[int]) -> None:
    """Note what comes until the connection ends."""
    with suppress(ConnectionClosed):
        while True:
            data = connection.recv(PATIENCE)
            if isinstance(data, bytes):
                sequences.append(unpack(data).sequence)


LOST = """
import json, sys, time
from websockets.sync.client import connect
connection = connect(f"ws://{sys.argv[1]}/v1/avatars/tiny/stream")
connection.send(json.dumps({"type": "hello", "version": 1, "mode": "pushed"}))
connection.recv()
print("ready", flush=True)
while True:
    connection.recv()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_lost_client_frees_everything_within_5_s(engine: Engine, address: str, how: str) -> None:
    """Killed, its system still says so; stopped, it is as silent as one whose cable was cut."""
    lost = subprocess.Popen([sys.executable, "-c", LOST, address], stdout=subprocess.PIPE, text=True)
    assert lost.stdout is not None
    try:
        assert lost.stdout.readline() == "ready\n"
        (seat,) = engine._seats.values()
        os.kill(lost.pid, getattr(signal, how))
        began = time.monotonic()
        until(lambda: engine.active == 0, 8)
        assert time.monotonic() - began < max(PING_EVERY + PING_ANSWER, 5) + 0.5
        assert seat.closed is not None
    finally:
        lost.kill()
        lost.wait()
        lost.stdout.close()


def test_half_open_connections_hold_nothing_up(engine: Engine, address: str) -> None:
    head = f"GET /v1/avatars/tiny/stream HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n".encode()
    upgrade = head + (
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    half = [raw(address, data) for data in (b"", head, upgrade) for _ in range(20)]
    try:
        with client(address) as (connection, _):
            assert of_kind(received(connection, frames=5), Kind.SOUND)
        assert engine.active <= 1
    finally:
        for connection_of_nobody in half:
            connection_of_nobody.close()


def test_the_server_says_that_it_stops(avatar: Avatar) -> None:
    with (
        running(costly_face(avatar)[0], sessions=1) as engine,
        serving(engine, Policy(limits=LIMITS)) as address,
        client(address) as (connection, _),
    ):
        threading.Timer(0.3, engine.stop).start()
        assert ended_with(connection) == (1012, "stopped")


@pytest.mark.allow_error_log
def test_a_model_that_raises_ends_its_session_and_says_so(made: tuple[Engine, CostlyGenerator], address: str) -> None:
    _, generator = made
    generator.broken = True
    try:
        with client(address) as (connection, _):
            connection.send(pcm(noise(4, level=1.0), "s16le"))
            assert ended_with(connection) == (1011, "model")
    finally:
        generator.broken = False


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_connects_and_disconnects_leave_nothing(engine: Engine, address: str, count: int) -> None:
    _come_and_go(engine, address, 30)  # what the first ones take, is kept for all that follow
    before = _holdings(os.getpid())
    _come_and_go(engine, address, count)
    until(lambda: _holdings(os.getpid()).files <= before.files + 2, 6)
    assert _holdings(os.getpid()).memory_mib - before.memory_mib < 16
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("lipwright")]) <= 3
    with client(address) as (connection, _):
        assert of_kind(received(connection, frames=5), Kind.SOUND)


def _come_and_go(engine: Engine, address: str, count: int) -> None:
    for k in range(count):
        with suppress(ConnectionClosed), client(address) as (connection, _):
            if k % 3 == 0:
                connection.send(bytes(640))
            if k % 10 == 0:
                connection.recv(PATIENCE)
    until(lambda: engine.active == 0)
    gc.collect()


SOAK_SECONDS = 120


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the process's memory from /proc")
def test_memory_stays_flat(avatar: Avatar) -> None:
    command = [sys.executable, "-m", "lipwright", "serve", str(avatar.path), "--port", "0", "--sessions", "2"]
    with subprocess.Popen([*command, "--runtime", "onnxruntime"], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = ""
        while "http://" not in line:
            line = server.stderr.readline()
            assert line
        address = line.split("http://")[1].strip()
        sound = pcm(noise(SOAK_SECONDS), "s16le")
        with client(address, mode="live") as (first, _), client(address, mode="live") as (second, _):
            threads = [threading.Thread(target=_speak, args=(one, sound)) for one in (first, second)]
            # A second longer than is spoken: who stops reading answers no ping, and is left.
            frames = 25 * (SOAK_SECONDS + 1)
            threads += [threading.Thread(target=received, args=(one, "", frames)) for one in (first, second)]
            for thread in threads:
                thread.start()
            time.sleep(SOAK_SECONDS / 4)
            early = _holdings(server.pid)
            time.sleep(SOAK_SECONDS / 2)
            late = _holdings(server.pid)
            for thread in threads:
                thread.join()
        server.terminate()
        server.wait(20)
    assert late.memory_mib - early.memory_mib < 16
    assert late.files <= early.files
    assert late.threads <= early.threads + 2


def _holdings(pid: int) -> Holdings:
    """Memory, open files and threads of a process."""
    return Server(pid, "", ()).holdings()


# --- pieces ---------------------------------------------------------------------------------------------------------


def test_pcm_survives_the_way(engine: Engine) -> None:
    sound = noise(0.1, channels=2, level=1.0)
    exact = PcmReader("f32le", 2).read(pcm(sound, "f32le"))
    assert np.array_equal(exact, sound)
    rounded = PcmReader("s16le", 2).read(pcm(sound, "s16le"))
    assert np.abs(rounded - sound).max() <= 0.5 / 32768
    assert PcmReader("s16le", 1).read(pcm(np.array([[2.0], [-2.0]], np.float32), "s16le")).tolist() == [
        [32767 / 32768],
        [-1],
    ]


@pytest.mark.parametrize("data", [b"", bytes(23), bytes(24), b"\x01\x01" + bytes(21) + b"\x05xx"])
def test_cut_messages_are_noticed(engine: Engine, data: bytes) -> None:
    with pytest.raises((ProtocolError, ValueError)):
        unpack(data)
