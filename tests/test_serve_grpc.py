"""The gRPC door over real sockets: sessions, the generator alone, who is refused, and that the code fits its proto."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any, cast

import av
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lipwright.errors import LipwrightError
from lipwright.serve import lipwright_pb2 as pb
from lipwright.serve import lipwright_pb2_grpc as pb_grpc
from lipwright.serve.engine import Engine
from lipwright.serve.grpc import MAX_BATCH, GrpcDoor
from lipwright.serve.safety import Policy
from live import CostlyGenerator, costly_face, noise, running, serving, small_avatar, until
from media import write_sound

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent
TOKEN = "a secret that is long"
#: Roof of what a client takes: a batch of pictures.
OPTIONS = [("grpc.max_receive_message_length", 64 * 2**20), ("grpc.max_send_message_length", 128 * 2**20)]
#: Longer than any step takes on a busy machine.
PATIENCE = 20.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, CostlyGenerator]]:
    face, generator = costly_face(small_avatar(tmp_path_factory.mktemp("avatar")))
    with running(face, sessions=2, lookahead=0) as started:
        yield started, generator


@pytest.fixture(scope="module")
def engine(made: tuple[Engine, CostlyGenerator]) -> Engine:
    return made[0]


@pytest.fixture(scope="module")
def generator(made: tuple[Engine, CostlyGenerator]) -> CostlyGenerator:
    return made[1]


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    door = GrpcDoor(engine, Policy(), "127.0.0.1", 0)
    with serving(engine, doors=[door]):
        yield f"127.0.0.1:{door.port}"


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, OPTIONS) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return pb_grpc.LipwrightStub(channel)


@pytest.fixture(autouse=True)
def nothing_stays(engine: Engine) -> Iterator[None]:
    yield
    until(lambda: engine.active == 0)


class Call:
    """A Stream that is fed message by message."""

    def __init__(self, stub: Any, **start: Any) -> None:
        self._up: Queue[pb.AudioChunk | None] = Queue()
        asked = {"avatar": "tiny", "rate": 16_000, "channels": 1, **start}
        self.send(start=pb.Start(**asked))
        self.frames = stub.Stream(iter(self._up.get, None), timeout=PATIENCE)

    def send(self, **content: Any) -> None:
        self._up.put(pb.AudioChunk(**content))

    def done(self) -> None:
        """Nothing follows."""
        self._up.put(None)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_error: object) -> None:
        self.done()
        self.frames.cancel()


def pcm16(seconds: float) -> bytes:
    return (noise(seconds) * 32767).astype("<i2").tobytes()


def refusal(call: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value


# --- what the door says of itself -----------------------------------------------------------------------------------


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    """Made again by the tool, it is the same to the byte; the command is that of docs/protocol.md."""
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Ilipwright/serve=proto"]
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *outs, "lipwright/serve/lipwright.proto"], cwd=ROOT, check=True)
    made = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 3
    for path in made:
        assert path.read_bytes() == (ROOT / "src" / path.relative_to(tmp_path)).read_bytes(), path.name


def test_avatars(stub: Any) -> None:
    reply = stub.ListAvatars(pb.ListAvatarsRequest())
    assert [(a.name, a.width, a.height) for a in reply.avatars] == [("tiny", 160, 144)]
    assert reply.avatars[0].poster.startswith(b"\xff\xd8")
    assert (reply.sessions, reply.capacity) == (0, 2)


def test_health_and_reflection(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "lipwright.v1.Lipwright"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == 1
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked)
    names = {service.name for service in answer.list_services_response.service}
    assert {"lipwright.v1.Lipwright", "grpc.health.v1.Health"} <= names


# --- Stream ---------------------------------------------------------------------------------------------------------


def test_pushed_sound_comes_back_whole_with_pictures(stub: Any) -> None:
    sent = pcm16(1.0)
    with Call(stub, mode=pb.MODE_PUSHED) as call:
        for start in range(0, len(sent), 3001):  # pieces end in the middle of samples
            call.send(sound=sent[start : start + 3001])
        call.done()
        frames = list(call.frames)
    first, sequences = frames[0].started, [frame.sequence for frame in frames]
    assert (first.avatar, first.width, first.rate, first.channels, first.lookahead) == ("tiny", 160, 16_000, 1, 0)
    assert not any(frame.HasField("started") for frame in frames[1:])
    assert sequences == list(range(len(frames)))
    assert [frame.pts_us for frame in frames] == [40_000 * n for n in sequences]
    assert sent in b"".join(frame.sound for frame in frames)
    assert sum(frame.last for frame in frames) == 1
    assert any(frame.speaking for frame in frames)
    assert not frames[-1].speaking
    assert sum(frame.picture.startswith(b"\xff\xd8") for frame in frames) > len(frames) // 2


def test_a_call_in_which_nothing_was_said_ends(stub: Any) -> None:
    with Call(stub, mode=pb.MODE_PUSHED) as call:
        call.done()
        assert len(list(call.frames)) >= 1


def test_more_than_a_minute_waits_outside(stub: Any, engine: Engine) -> None:
    """Pushing far ahead is no error: the server just reads no further."""
    with Call(stub, mode=pb.MODE_PUSHED, picture_format=pb.PICTURE_FORMAT_NONE) as call:
        for _ in range(9):
            call.send(sound=pcm16(10.0))
        frames = [next(call.frames) for _ in range(25)]
        (seat,) = engine._seats.values()
        assert 50 < seat.stats()["sound_waiting_seconds"] <= 60
    assert not any(frame.HasField("picture") for frame in frames)


@pytest.mark.parametrize(
    ("kind", "begin"), [(pb.PICTURE_FORMAT_JPEG, b"\xff\xd8"), (pb.PICTURE_FORMAT_H264, b"\x00\x00\x00\x01")]
)
def test_picture_formats(stub: Any, kind: int, begin: bytes) -> None:
    with Call(stub, picture_format=kind) as call:
        frames = [next(call.frames) for _ in range(8)]
    pictures = [frame for frame in frames if frame.HasField("picture")]
    assert pictures[0].picture.startswith(begin)
    assert pictures[0].key


def test_plain_pictures(stub: Any) -> None:
    with Call(stub, picture_format=pb.PICTURE_FORMAT_BGR) as call:
        picture = next(frame.picture for frame in call.frames if frame.HasField("picture"))
    assert np.frombuffer(picture, np.uint8).reshape(144, 160, 3).std() > 10


def test_interrupt(stub: Any) -> None:
    with Call(stub, mode=pb.MODE_PUSHED) as call:
        call.send(sound=pcm16(5.0))
        while not next(call.frames).speaking:
            pass
        call.send(command=pb.COMMAND_INTERRUPT)
        generations: list[int] = []
        while not generations or generations[-1] == 0:
            generations.append(next(call.frames).generation)
        after = [next(call.frames) for _ in range(10)]
    assert {frame.generation for frame in after} == {1}
    assert not any(np.frombuffer(frame.sound, "<i2").any() for frame in after)
    assert len(generations) < 25


def test_a_client_that_goes_away_frees_its_place(stub: Any, engine: Engine) -> None:
    with Call(stub) as call:
        next(call.frames)
        assert engine.active == 1
    until(lambda: engine.active == 0, 5)


@pytest.mark.parametrize(
    ("first", "code", "words"),
    [
        (pb.AudioChunk(sound=b"\0\0"), "INVALID_ARGUMENT", "must be a Start"),
        (pb.AudioChunk(start=pb.Start(avatar="nobody", rate=16_000, channels=1)), "NOT_FOUND", "nobody"),
        (pb.AudioChunk(start=pb.Start(avatar="tiny", rate=4_000, channels=1)), "INVALID_ARGUMENT", "rate"),
        (pb.AudioChunk(start=pb.Start(avatar="tiny", rate=16_000, channels=3)), "INVALID_ARGUMENT", "channels"),
        (
            pb.AudioChunk(start=pb.Start(avatar="tiny", rate=16_000, channels=1, mode=cast(pb.Mode, 7))),
            "INVALID_ARGUMENT",
            "mode",
        ),
        (
            pb.AudioChunk(start=pb.Start(avatar="tiny", rate=16_000, channels=1, lookahead=8)),
            "INVALID_ARGUMENT",
            "look-ahead",
        ),
        (
            pb.AudioChunk(start=pb.Start(avatar="tiny", rate=16_000, channels=1, quality=101)),
            "INVALID_ARGUMENT",
            "quality",
        ),
    ],
)
def test_starts_that_are_refused(stub: Any, first: pb.AudioChunk, code: str, words: str) -> None:
    error = refusal(stub.Stream(iter([first]), timeout=PATIENCE))
    assert error.code().name == code
    assert words in str(error.details())


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"sound": bytes(2**20 + 2)}, "smaller pieces"),
        ({"command": 9}, "no command 9"),
        ({"start": pb.Start()}, "after the Start"),
        ({}, "after the Start"),
    ],
)
def test_messages_that_are_refused(stub: Any, message: dict[str, Any], words: str) -> None:
    with Call(stub) as call:
        call.send(**message)
        error = refusal(call.frames)
    assert error.code().name == "INVALID_ARGUMENT"
    assert words in str(error.details())


def test_a_full_server_says_so(stub: Any) -> None:
    with Call(stub) as one, Call(stub) as two:
        next(one.frames), next(two.frames)
        with Call(stub) as three:
            error = refusal(three.frames)
    assert error.code().name == "RESOURCE_EXHAUSTED"
    assert int(dict(cast(Any, error.trailing_metadata()))["retry-after"]) > 0


# --- InferBatch -----------------------------------------------------------------------------------------------------


def tensor(values: Any) -> pb.Tensor:
    kind = pb.TENSOR_TYPE_UINT8 if values.dtype == np.uint8 else pb.TENSOR_TYPE_FLOAT32
    return pb.Tensor(type=kind, shape=values.shape, data=values.tobytes())


def infer_request(frames: int, kind: Any = np.float32, **changes: Any) -> pb.InferBatchRequest:
    pixels = np.random.default_rng(1).integers(0, 256, (frames, 6, 320, 320), np.uint8)
    inputs = pixels if kind == np.uint8 else pixels / np.float32(255)
    windows = np.zeros((frames, 32, 16, 16), np.float32)
    parts = {"avatar": "tiny", "input": tensor(inputs), "audio": tensor(windows), **changes}
    return pb.InferBatchRequest(**parts)


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_infer_gives_the_generators_pictures(stub: Any, kind: Any) -> None:
    """That of these tests answers with the reference half of its input."""
    request = infer_request(2, kind, output_type=pb.TENSOR_TYPE_UINT8 if kind == np.uint8 else pb.TENSOR_TYPE_FLOAT32)
    output = stub.InferBatch(request, timeout=PATIENCE).output
    got = np.frombuffer(output.data, kind).reshape(output.shape)
    sent = np.frombuffer(request.input.data, kind).reshape(2, 6, 320, 320)
    np.testing.assert_array_equal(got, sent[:, :3])


def test_the_largest_batch_fits_into_a_message(stub: Any) -> None:
    output = stub.InferBatch(infer_request(MAX_BATCH), timeout=PATIENCE).output
    assert list(output.shape) == [MAX_BATCH, 3, 320, 320]
    assert len(output.data) == MAX_BATCH * 3 * 320 * 320 * 4


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"avatar": "nobody"}, "NOT_FOUND", "nobody"),
        ({"input": pb.Tensor(shape=[1, 3, 320, 320])}, "INVALID_ARGUMENT", "expected float32 or uint8"),
        ({"input": pb.Tensor(shape=[1, 6, 320, 320], data=b"1234")}, "INVALID_ARGUMENT", "4 bytes are not"),
        ({"audio": tensor(np.zeros((2, 32, 16, 16), np.float32))}, "INVALID_ARGUMENT", "same number"),
        ({"audio": tensor(np.zeros((1, 32, 16, 16), np.uint8))}, "INVALID_ARGUMENT", "features are float32"),
        ({"audio": tensor(np.full((1, 32, 16, 16), np.nan, np.float32))}, "INVALID_ARGUMENT", "not numbers"),
        ({"output_type": 5}, "INVALID_ARGUMENT", "no type 5"),
    ],
)
def test_tensors_that_are_refused(stub: Any, changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.InferBatch(infer_request(1, **changes), timeout=PATIENCE)
    assert caught.value.code().name == code
    assert words in str(caught.value.details())


def test_too_many_frames(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.InferBatch(infer_request(MAX_BATCH + 1, np.uint8), timeout=PATIENCE)
    assert "1..32" in str(caught.value.details())


def test_calls_that_wait_hold_up_no_live_picture(stub: Any, generator: CostlyGenerator) -> None:
    """They wait in no thread of those in which live pictures are compressed."""
    generator.frame_ms = 200
    try:
        waiting = [stub.InferBatch.future(infer_request(8, np.uint8), timeout=5 * PATIENCE) for _ in range(7)]
        with Call(stub, mode=pb.MODE_PUSHED) as call:
            until(lambda: sum(thread.name.startswith("lipwright-infer") for thread in threading.enumerate()) >= 5)
            assert next(call.frames).HasField("started")
            assert len([next(call.frames) for _ in range(5)]) == 5
    finally:
        generator.frame_ms = 0
    assert all(len(one.result().output.shape) == 4 for one in waiting)


def test_pages_of_browsers_are_refused(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListAvatars(pb.ListAvatarsRequest(), metadata=(("origin", "http://127.0.0.1:8700"),))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


# --- token, TLS, example --------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(engine: Engine) -> Iterator[grpc.Channel]:
    door = GrpcDoor(engine, Policy(token=TOKEN), "127.0.0.1", 0)
    with serving(engine, doors=[door]), grpc.insecure_channel(f"127.0.0.1:{door.port}") as opened:
        yield opened


@pytest.mark.parametrize("token", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN])
def test_without_the_token_nothing_is_answered(guarded: grpc.Channel, token: str | None) -> None:
    stub: Any = pb_grpc.LipwrightStub(guarded)
    metadata = [("authorization", token)] if token else []
    calls: list[Callable[[], Any]] = [
        lambda: stub.ListAvatars(pb.ListAvatarsRequest(), metadata=metadata, timeout=PATIENCE),
        lambda: list(stub.Stream(iter([pb.AudioChunk()]), metadata=metadata, timeout=PATIENCE)),
        lambda: stub.InferBatch(infer_request(1, np.uint8), metadata=metadata, timeout=PATIENCE),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code().name == "UNAUTHENTICATED"


def test_with_the_token_all_is_answered_and_health_needs_none(guarded: grpc.Channel) -> None:
    stub: Any = pb_grpc.LipwrightStub(guarded)
    assert stub.ListAvatars(pb.ListAvatarsRequest(), metadata=[("authorization", f"Bearer {TOKEN}")]).capacity == 2
    health: Any = health_pb2_grpc
    assert health.HealthStub(guarded).Check(health_pb2.HealthCheckRequest()).status == 1


def test_tls(engine: Engine, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate, *names], check=True, capture_output=True)
    door = GrpcDoor(engine, Policy(), "127.0.0.1", 0, certificate, key)
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    with serving(engine, doors=[door]), grpc.secure_channel(f"127.0.0.1:{door.port}", trusted) as channel:
        stub: Any = pb_grpc.LipwrightStub(channel)
        assert stub.ListAvatars(pb.ListAvatarsRequest(), timeout=PATIENCE).capacity == 2


def test_a_port_that_is_taken(engine: Engine, address: str) -> None:
    door = GrpcDoor(engine, Policy(), "127.0.0.1", int(address.split(":")[1]))
    with pytest.raises(LipwrightError, match="choose another --grpc-port"):
        asyncio.run(door.start())


def test_a_certificate_that_is_not_there(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(LipwrightError, match=r"no\.pem.* cannot be read"):
        GrpcDoor(engine, Policy(), "127.0.0.1", 0, tmp_path / "no.pem", tmp_path / "no.key")


def test_the_example(address: str, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "speech.wav", noise(1.0, 44_100, channels=2), 44_100)
    out = tmp_path / "film.mp4"
    command = [sys.executable, str(ROOT / "examples" / "grpc_client.py"), address, "tiny", str(sound), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "tiny: 160 x 144" in done.stderr
    with av.open(str(out)) as film:
        assert sum(1 for _ in film.decode(video=0)) >= 25
        assert film.streams.audio[0].rate == 44_100


def test_a_killed_client_frees_its_place(address: str, engine: Engine) -> None:
    code = (
        "import sys, time, grpc\n"
        "from lipwright.serve import lipwright_pb2 as pb, lipwright_pb2_grpc as g\n"
        "def up():\n"
        "    yield pb.AudioChunk(start=pb.Start(avatar='tiny', rate=16000, channels=1))\n"
        "    time.sleep(60)\n"
        "for frame in g.LipwrightStub(grpc.insecure_channel(sys.argv[1])).Stream(up()):\n"
        "    print(frame.sequence, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, address], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        process.stdout.readline()
        watchdog.cancel()
        assert engine.active == 1
        process.kill()
    until(lambda: engine.active == 0, 5)
