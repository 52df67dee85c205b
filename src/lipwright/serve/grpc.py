"""The gRPC door: live sessions, and the generator alone for those who cut and paste on another machine.

``proto/lipwright.proto`` describes it; ``lipwright_pb2`` and ``lipwright_pb2_grpc`` are made from it by grpcio-tools.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc import StatusCode, aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lipwright.contract import AUDIO, INPUT, OUTPUT, FloatArray, TensorSpec
from lipwright.errors import ContractError, LipwrightError
from lipwright.picture import Picture
from lipwright.serve import lipwright_pb2 as pb
from lipwright.serve import lipwright_pb2_grpc as pb_grpc
from lipwright.serve.engine import Engine, EngineFullError, EngineStoppedError, NoSuchAvatarError, Seat
from lipwright.serve.pictures import JPEG_QUALITY, H264Encoder, JpegEncoder, Unit
from lipwright.serve.protocol import US_PER_MS, PcmReader, SoundFormat, pcm
from lipwright.serve.safety import Bucket, Limits, Policy
from lipwright.serve.session import LiveFrame, Mode, SessionOptions, TooFarAheadError

logger = logging.getLogger(__name__)

SERVICE: str = pb.DESCRIPTOR.services_by_name["Lipwright"].full_name
#: Frames in one call of InferBatch.
MAX_BATCH = 32
#: Calls beside the sessions: each may hold one message of the largest size.
OTHER_CALLS = 8
#: A ping every so many milliseconds, and how long its answer may take: together less than the 5 s in which a lost
#: client must be noticed.
PING_EVERY_MS = 2000
PING_ANSWER_MS = 2000
#: Room in a message for everything but the numbers of its tensors.
_ENVELOPE = 2**16
#: While too much pushed sound waits, it is tried again after so many seconds.
_AGAIN_SECONDS = 0.1
#: Seconds in which open calls may end when the server stops.
_GRACE_SECONDS = 1.0
_CODES: tuple[tuple[type[LipwrightError], StatusCode], ...] = (
    (NoSuchAvatarError, StatusCode.NOT_FOUND),
    (EngineFullError, StatusCode.RESOURCE_EXHAUSTED),
    (EngineStoppedError, StatusCode.UNAVAILABLE),
)
_SOUND: dict[int, SoundFormat] = {pb.SOUND_FORMAT_S16LE: "s16le", pb.SOUND_FORMAT_F32LE: "f32le"}
_MODES: dict[int, Mode] = {pb.MODE_LIVE: "live", pb.MODE_PUSHED: "pushed"}
_FLOAT, _BYTE = np.dtype("<f4"), np.dtype("u1")
_TENSOR: dict[int, np.dtype[Any]] = {pb.TENSOR_TYPE_FLOAT32: _FLOAT, pb.TENSOR_TYPE_UINT8: _BYTE}
#: Names of the methods that need no token.
_OPEN = ("/grpc.health.", "/grpc.reflection.")

Context = aio.ServicerContext[Any, Any]


def _batch_bytes(*specs: TensorSpec) -> int:
    """Size of a message with the largest batch of these tensors as float32."""
    return _ENVELOPE + MAX_BATCH * sum(math.prod(spec.shape[1:]) for spec in specs) * _FLOAT.itemsize


class GrpcDoor:
    """Listens for gRPC on the event loop that starts it.

    Args:
        engine: draws.
        policy: who may use it.
        host: address to listen on.
        port: 0 lets the system choose.
        certificate: PEM file for TLS; None: without.
        key: PEM file of its private key.

    Raises:
        LipwrightError: certificate or key cannot be read.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        host: str,
        port: int,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._host = host
        self.port = port
        """The one that is listened on, after ``start``."""
        self._credentials = None if certificate is None or key is None else _credentials(certificate, key)
        self._server: aio.Server | None = None
        self._service: _Service | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            LipwrightError: the address is taken, or certificate and key do not fit.
        """
        server = aio.server(
            interceptors=[_Gate(self._policy)],
            options=_options(),
            maximum_concurrent_rpcs=self._engine.capacity + OTHER_CALLS,
        )
        self._service = _Service(self._engine, self._policy.limits)
        pb_grpc.add_LipwrightServicer_to_server(self._service, server)
        await _add_health(server)
        reflection.enable_server_reflection([SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        self.port = self._listen(server)
        await server.start()
        self._server = server
        logger.info("gRPC on %s:%d", self._host, self.port)

    async def stop(self) -> None:
        """End all calls."""
        if self._server is not None:
            await self._server.stop(_GRACE_SECONDS)
        if self._service is not None:
            self._service.close()

    def _listen(self, server: aio.Server) -> int:
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{self.port}"
        try:
            if self._credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise LipwrightError(
                f"gRPC cannot listen on {address}: choose another --grpc-port, or check --tls-cert and --tls-key"
            ) from error


def _options() -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", _batch_bytes(INPUT, AUDIO)),
        ("grpc.max_send_message_length", _batch_bytes(OUTPUT)),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", PING_ANSWER_MS),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _credentials(certificate: Path, key: Path) -> grpc.ServerCredentials:
    try:
        pair = (key.read_bytes(), certificate.read_bytes())
    except OSError as error:
        raise LipwrightError(f"{certificate} and {key} cannot be read for TLS: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair])


async def _add_health(server: aio.Server) -> None:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", SERVICE):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)


class _Gate(aio.ServerInterceptor):
    """Refuses calls without the token, and any that a page of a browser sends, before anything is read of them."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.aio.ServerInterceptor."""
        method, metadata = handler_call_details.method, dict(handler_call_details.invocation_metadata)
        if "origin" in metadata:
            logger.info("refused %s: origin", method)
            return grpc.stream_stream_rpc_method_handler(_refuse_page)
        given = metadata.get("authorization")
        if method.startswith(_OPEN) or self._policy.bearer_ok(None if given is None else str(given)):
            return await continuation(handler_call_details)
        logger.info("refused %s: token", method)
        # A streaming handler ends the call before any message is read, whatever kind the client thinks it is.
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(_requests: object, context: Context) -> None:
    await context.abort(StatusCode.UNAUTHENTICATED, "send the metadata authorization: Bearer LIPWRIGHT_TOKEN")


async def _refuse_page(_requests: object, context: Context) -> None:
    await context.abort(StatusCode.PERMISSION_DENIED, "pages may not use gRPC: they have the WebSocket")


async def _abort(context: Context, error: LipwrightError) -> None:
    """End the call with the status of ``error``; always raises."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), StatusCode.INVALID_ARGUMENT)
    trailing = (("retry-after", str(error.retry_after)),) if isinstance(error, EngineFullError) else ()
    await context.abort(code, str(error), trailing)


class _Service:
    """The methods of ``lipwright.v1.Lipwright``; names are the protocol's."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        # A call that waits behind live frames holds a thread: not one of those in which their pictures are compressed.
        self._waiting = ThreadPoolExecutor(OTHER_CALLS, "lipwright-infer")

    def close(self) -> None:
        """End the threads, without waiting for calls that nobody waits for any more."""
        self._waiting.shutdown(wait=False, cancel_futures=True)

    async def ListAvatars(  # noqa: N802
        self, _request: pb.ListAvatarsRequest, _context: Context
    ) -> pb.ListAvatarsReply:
        faces = self._engine.faces.values()
        return pb.ListAvatarsReply(
            avatars=[
                pb.Avatar(name=face.name, width=face.width, height=face.height, poster=face.poster) for face in faces
            ],
            sessions=self._engine.active,
            capacity=self._engine.capacity,
        )

    async def Stream(self, _requests: object, context: Context) -> None:  # noqa: N802
        try:
            start = await self._start(context)
            with self._engine.open(start.avatar, _session_options(start), "grpc") as seat:
                await _Stream(context, seat, start, self._limits).run()
        except LipwrightError as error:
            await _abort(context, error)

    async def InferBatch(  # noqa: N802
        self, request: pb.InferBatchRequest, context: Context
    ) -> pb.InferBatchReply:
        try:
            inputs, windows = _array("input", request.input, INPUT), _array("audio", request.audio, AUDIO)
            if request.audio.type != pb.TENSOR_TYPE_FLOAT32:
                raise ContractError("audio: features are float32")
            if not 1 <= len(inputs) == len(windows) <= MAX_BATCH:
                raise ContractError(
                    f"input and audio must hold the same number of frames, 1..{MAX_BATCH}, not {len(inputs)} and "
                    f"{len(windows)}"
                )
            loop = asyncio.get_running_loop()
            output = await loop.run_in_executor(self._waiting, self._engine.infer, request.avatar, inputs, windows)
            return pb.InferBatchReply(output=_tensor(output, request.output_type))
        except LipwrightError as error:
            await _abort(context, error)
            raise

    async def _start(self, context: Context) -> pb.Start:
        try:
            first = await asyncio.wait_for(context.read(), self._limits.hello_seconds)
        except TimeoutError as error:
            raise ContractError("no Start came in time") from error
        if first is aio.EOF or first.WhichOneof("content") != "start":
            raise ContractError("the first message must be a Start")
        start: pb.Start = first.start
        return start


# --- tensors ----------------------------------------------------------------------------------------------------------


def _array(name: str, tensor: pb.Tensor, spec: TensorSpec) -> FloatArray:
    """A tensor as float32 of ``spec``; uint8 0..255 becomes 0..1.

    Raises:
        ContractError: another shape, an unknown type, or data of another length.
    """
    dtype = _TENSOR.get(tensor.type)
    shape = tuple(tensor.shape)
    if dtype is None or not spec.accepts(shape):
        raise ContractError(f"{name}: expected float32 or uint8 {list(spec.shape)}, got {list(shape)}")
    if len(tensor.data) != math.prod(shape) * dtype.itemsize:
        raise ContractError(f"{name}: {len(tensor.data)} bytes are not {list(shape)} of {dtype.name}")
    values = np.frombuffer(tensor.data, dtype).reshape(shape)
    if dtype == _BYTE:
        return np.asarray(values / np.float32(255), np.float32)
    if not np.isfinite(values).all():
        raise ContractError(f"{name}: it holds values that are not numbers (NaN or infinity)")
    return np.asarray(values, np.float32)


def _tensor(values: FloatArray, kind: pb.TensorType) -> pb.Tensor:
    """Pictures 0..1 as they were asked for.

    Raises:
        ContractError: an unknown type.
    """
    if kind == pb.TENSOR_TYPE_UINT8:
        data = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).tobytes()
    elif kind == pb.TENSOR_TYPE_FLOAT32:
        data = values.astype(_FLOAT).tobytes()
    else:
        raise ContractError(f"output_type: there is no type {kind}")
    return pb.Tensor(type=kind, shape=values.shape, data=data)


# --- a session --------------------------------------------------------------------------------------------------------


def _session_options(start: pb.Start) -> SessionOptions:
    """What Start asks for.

    Raises:
        ContractError: it asks for something that there is not.
    """
    if start.mode not in _MODES or start.sound_format not in _SOUND:
        raise ContractError("mode and sound_format must be values of their enums")
    lookahead = start.lookahead if start.HasField("lookahead") else None
    # Pings watch the connection: a client that only listens need not send anything.
    return SessionOptions(_MODES[start.mode], start.rate, start.channels, lookahead, lost_after=None)


def _encoder(start: pb.Start, seat: Seat) -> Callable[[Picture, bool], Unit] | None:
    """Encodes pictures as Start asks for; None: there shall be none.

    Raises:
        ContractError: there is no such format or quality.
    """
    kind, quality = start.picture_format, start.quality or JPEG_QUALITY
    if kind == pb.PICTURE_FORMAT_NONE:
        return None
    if kind == pb.PICTURE_FORMAT_BGR:
        return lambda picture, _key: Unit(picture.bgr.tobytes(), key=True)
    if kind == pb.PICTURE_FORMAT_H264:
        return H264Encoder(seat.width, seat.height).encode
    if kind != pb.PICTURE_FORMAT_JPEG or quality > 100:
        raise ContractError("picture_format must be a value of its enum, and quality 1..100")
    jpeg = JpegEncoder(quality)
    return lambda picture, _key: jpeg.encode(picture)


class _Stream:
    """One call: a task listens to the client, another speaks to it."""

    def __init__(self, context: Context, seat: Seat, start: pb.Start, limits: Limits) -> None:
        self._context = context
        self._seat = seat
        self._limits = limits
        self._format = _SOUND[start.sound_format]
        self._reader = PcmReader(self._format, seat.options.channels)
        self._encode = _encoder(start, seat)
        self._key = False
        self._hears_end = False
        self._started: pb.Started | None = pb.Started(
            session=seat.id,
            avatar=seat.name,
            width=seat.width,
            height=seat.height,
            rate=seat.rate,
            channels=seat.channels,
            lookahead=seat.lookahead,
            lookahead_ms=seat.lookahead_ms,
        )

    async def run(self) -> None:
        """Until the client has enough, or has heard all that it pushed.

        Raises:
            LipwrightError: it asked for something that there is not, or the session was given up.
        """
        listening, speaking = asyncio.create_task(self._listen()), asyncio.create_task(self._speak())
        try:
            done, _ = await asyncio.wait({listening, speaking}, return_when=asyncio.FIRST_COMPLETED)
            if listening in done:
                listening.result()
            await speaking
        finally:
            for task in (listening, speaking):
                task.cancel()
            await asyncio.gather(listening, speaking, return_exceptions=True)
        if self._seat.closed is not None:
            raise EngineStoppedError(f"the session was closed: {self._seat.closed}")

    # --- from the client ------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        most = self._limits.messages_per_second
        rate = Bucket(most, time.monotonic())
        while (message := await self._context.read()) is not aio.EOF:
            while not rate.allows(time.monotonic()):
                await asyncio.sleep(1 / most)
            kind = message.WhichOneof("content")
            if kind == "sound":
                await self._hear(message.sound)
            elif kind == "command":
                self._obey(message.command)
            else:
                raise ContractError("after the Start come sound and commands only")
        self._seat.end()
        self._hears_end = self._seat.options.mode == "pushed"

    async def _hear(self, data: bytes) -> None:
        """Take sound in; while too much waits, nothing more is read, which stops the client by HTTP/2's own means."""
        most = self._limits.message_bytes
        if len(data) > most:
            raise ContractError(f"a piece of sound has {len(data)} bytes, more than {most}: send smaller pieces")
        samples = self._reader.read(data)
        second = self._seat.options.rate
        for start in range(0, len(samples), second):
            while not self._pushed(samples[start : start + second]):
                await asyncio.sleep(_AGAIN_SECONDS)

    def _pushed(self, samples: FloatArray) -> bool:
        try:
            self._seat.push(samples)
        except TooFarAheadError:
            return False
        return True

    def _obey(self, command: pb.Command) -> None:
        if command == pb.COMMAND_INTERRUPT:
            self._seat.interrupt()
        elif command == pb.COMMAND_END:
            self._seat.end()
        else:
            raise ContractError(f"there is no command {command}")

    # --- to the client --------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        while (frame := await self._seat.frame()) is not None:
            unit = await self._encoded(frame)
            if self._seat.stale(frame):
                self._key = True  # a decoder that missed a unit needs a key picture
                continue
            await self._context.write(self._message(frame, unit))
            self._seat.sent(frame)
            if self._hears_end and self._all_said(frame):
                return

    def _all_said(self, frame: LiveFrame) -> bool:
        idle_from = self._seat.idle_from
        return idle_from is not None and frame.sequence >= idle_from

    async def _encoded(self, frame: LiveFrame) -> Unit | None:
        if self._encode is None or frame.picture is None:
            return None
        key, self._key = self._key, False
        return await asyncio.to_thread(self._encode, frame.picture, key)

    def _message(self, frame: LiveFrame, unit: Unit | None) -> pb.Frame:
        started, self._started = self._started, None
        return pb.Frame(
            generation=frame.generation,
            sequence=frame.sequence,
            pts_us=round(frame.pts_ms * US_PER_MS),
            speaking=frame.speaking,
            last=frame.last,
            sound=pcm(frame.samples, self._format),
            picture=None if unit is None else unit.data,
            key=unit is not None and unit.key,
            started=started,
        )
