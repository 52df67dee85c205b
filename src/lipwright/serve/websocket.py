"""The WebSocket door: sound up, sound and pictures down, version 1 of ``protocol``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from lipwright.contract import FPS
from lipwright.errors import ContractError
from lipwright.picture import Picture
from lipwright.serve.engine import Engine, EngineFullError, EngineStoppedError, NoSuchAvatarError, Seat
from lipwright.serve.listen import WRITABLE
from lipwright.serve.pictures import H264Encoder, JpegEncoder, Unit
from lipwright.serve.protocol import (
    VERSION,
    CloseCode,
    Command,
    Hello,
    Kind,
    PcmReader,
    PictureHello,
    ProtocolError,
    check_hello,
    pack,
    parse,
    pcm,
    text,
)
from lipwright.serve.safety import Bucket, Limits, Policy
from lipwright.serve.session import LiveFrame, SessionOptions, TooFarAheadError

#: RFC 6455: a reason for closing has at most 123 bytes.
_REASON_BYTES = 123


@dataclass(frozen=True, slots=True)
class EndError(Exception):
    """The connection ends, for this reason."""

    close: CloseCode
    code: str
    message: str


async def serve_stream(socket: WebSocket, avatar: str, engine: Engine, policy: Policy) -> None:
    """One client from its upgrade to its end; whatever happens, its seat is free afterwards."""
    await socket.accept()
    try:
        hello = await _hello(socket, policy)
        with _seat(engine, avatar, hello) as seat:
            try:
                await _Stream(socket, seat, hello, policy.limits).run()
            except EndError as end:
                seat.close(end.code)
                raise
    except EndError as end:
        await _close(socket, end)
    except WebSocketDisconnect:
        return  # gone while something was being sent


async def _hello(socket: WebSocket, policy: Policy) -> Hello:
    try:
        message = await asyncio.wait_for(socket.receive(), policy.limits.hello_seconds)
    except TimeoutError as error:
        raise EndError(CloseCode.POLICY, "hello", "no hello came in time") from error
    if message["type"] == "websocket.disconnect":
        raise EndError(CloseCode.BYE, "bye", "gone")
    try:
        hello = check_hello(parse(message.get("text") or ""))
    except ProtocolError as error:
        raise EndError(CloseCode.POLICY, error.code, str(error)) from error
    authorization = socket.headers.get("authorization")
    if not (policy.token_ok(hello.token) if authorization is None else policy.bearer_ok(authorization)):
        raise EndError(CloseCode.POLICY, "token", "this server wants its token in the hello")
    return hello


def _seat(engine: Engine, avatar: str, hello: Hello) -> Seat:
    sound = hello.audio
    # Pings watch the connection: a client that only listens need not send anything.
    options = SessionOptions(hello.mode, sound.rate, sound.channels, hello.lookahead, lost_after=None)
    try:
        return engine.open(avatar, options, "websocket")
    except NoSuchAvatarError as error:
        raise EndError(CloseCode.POLICY, "avatar", str(error)) from error
    except EngineFullError as error:
        raise EndError(CloseCode.FULL, "full", str(error)) from error
    except EngineStoppedError as error:
        raise EndError(CloseCode.RESTART, "stopped", str(error)) from error


async def _close(socket: WebSocket, end: EndError) -> None:
    """Say why, as far as the client still listens."""
    try:
        if end.close != CloseCode.BYE:
            await socket.send_json(text("error", code=end.code, message=end.message))
        reason = end.message.encode()[:_REASON_BYTES].decode(errors="ignore")
        await socket.close(end.close, reason)
    except (RuntimeError, WebSocketDisconnect):
        return  # closed already, by us or by the client


class _Stream:
    """A client that was let in: one task listens to it, one speaks to it."""

    def __init__(self, socket: WebSocket, seat: Seat, hello: Hello, limits: Limits) -> None:
        self._socket = socket
        self._seat = seat
        self._hello = hello
        self._limits = limits
        self._reader = PcmReader(hello.audio.format, hello.audio.channels)
        self._encoder = _encoder(hello.picture, seat)
        self._told_codec = False
        self._key = False
        self._writable: Callable[[], Awaitable[Any]] = socket.scope["extensions"].get(WRITABLE, _at_once)

    async def run(self) -> None:
        """Until either side has enough.

        Raises:
            EndError: always.
        """
        await self._socket.send_json(self._ready())
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise _ending_of(self._seat)

    def _ready(self) -> dict[str, Any]:
        seat, hello = self._seat, self._hello
        return text(
            "ready",
            version=VERSION,
            session=seat.id,
            avatar=seat.name,
            width=seat.width,
            height=seat.height,
            fps=FPS,
            mode=hello.mode,
            generation=0,
            lookahead=seat.lookahead,
            lookahead_ms=seat.lookahead_ms,
            audio={"format": hello.audio.format, "rate": seat.rate, "channels": seat.channels},
            picture={"format": hello.picture.format},
            limits={
                "message_bytes": self._limits.message_bytes,
                "messages_per_second": self._limits.messages_per_second,
                "pushed_seconds": self._limits.pushed_seconds,
            },
        )

    # --- from the client --------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        rate = Bucket(self._limits.messages_per_second, time.monotonic())
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            if not rate.allows(time.monotonic()):
                most = self._limits.messages_per_second
                raise EndError(CloseCode.POLICY, "rate", f"more than {most:g} messages a second: send larger pieces")
            if message.get("bytes") is not None:
                await self._hear(message["bytes"])
            else:
                await self._obey(message.get("text") or "")

    async def _hear(self, data: bytes) -> None:
        try:
            self._seat.push(self._reader.read(data))
        except TooFarAheadError as error:
            await self._socket.send_json(text("error", code="too_far_ahead", message=str(error)))
        except ContractError as error:
            raise EndError(CloseCode.BROKEN, "sound", str(error)) from error

    async def _obey(self, message: str) -> None:
        try:
            command = parse(message)
        except ProtocolError as error:
            raise EndError(CloseCode.POLICY, error.code, str(error)) from error
        if not isinstance(command, Command):
            raise EndError(CloseCode.POLICY, "hello", "there is one hello in a session")
        if command.type == "interrupt":
            await self._socket.send_json(text("interrupted", generation=self._seat.interrupt()))
        elif command.type == "end":
            self._seat.end()
        elif command.type == "stats":
            await self._socket.send_json(text("stats", **self._seat.stats()))
        else:
            raise EndError(CloseCode.BYE, "bye", "bye")

    # --- to the client ----------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        while (frame := await self._seat.frame()) is not None:
            unit = None if frame.picture is None else await self._encoded(frame.picture)
            if await self._sent(frame, unit):
                self._seat.sent(frame)
            elif unit is not None:
                self._key = True  # a decoder that missed a unit needs a key picture
            if frame.last:
                await self._socket.send_json(text("spoken", generation=frame.generation))

    async def _encoded(self, picture: Picture) -> Unit | None:
        encoder = self._encoder
        if encoder is None:
            return None
        if isinstance(encoder, JpegEncoder):
            return await asyncio.to_thread(encoder.encode, picture)
        key, self._key = self._key, False
        return await asyncio.to_thread(encoder.encode, picture, key)

    async def _sent(self, frame: LiveFrame, unit: Unit | None) -> bool:
        """Send both parts of a frame, unless an interrupt makes it stale while the connection is not ready for it."""
        sound = pack(frame, Kind.SOUND, pcm(frame.samples, self._hello.audio.format))
        if not await self._send_fresh(frame, sound):
            return False
        if unit is None:
            return True
        kind = Kind.JPEG if self._hello.picture.format == "jpeg" else Kind.H264
        await self._tell_codec()
        return await self._send_fresh(frame, pack(frame, kind, unit.data, unit.key))

    async def _send_fresh(self, frame: LiveFrame, data: bytes) -> bool:
        await self._writable()
        if self._seat.stale(frame):
            return False
        await self._socket.send_bytes(data)
        return True

    async def _tell_codec(self) -> None:
        encoder = self._encoder
        if isinstance(encoder, H264Encoder) and encoder.codec is not None and not self._told_codec:
            self._told_codec = True
            size = {"width": encoder.width, "height": encoder.height}
            await self._socket.send_json(text("config", codec=encoder.codec, **size))


async def _at_once() -> None:
    """For servers that do not say when a connection is ready for more."""


def _encoder(picture: PictureHello, seat: Seat) -> JpegEncoder | H264Encoder | None:
    if picture.format == "jpeg":
        return JpegEncoder(picture.quality)
    return H264Encoder(seat.width, seat.height) if picture.format == "h264" else None


def _ending_of(seat: Seat) -> EndError:
    """Why a stream has ended whose tasks did not say it."""
    reason = seat.closed
    if reason is None:
        return EndError(CloseCode.BYE, "bye", "gone")
    if reason.startswith("error"):
        return EndError(CloseCode.ERROR, "model", reason)
    return EndError(CloseCode.RESTART, "stopped", reason)
