"""The WebRTC door: WHIP for a microphone, with or without the avatar coming back, and WHEP for those who watch.

Signalling is one POST with an SDP offer and all its candidates, answered with all of ours; no trickle, no STUN, and
sockets only at the addresses that the server itself is bound to. ``docs/protocol.md`` describes it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aioice.ice import get_host_addresses
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcicetransport import RTCIceGatherer
from aiortc.sdp import MediaDescription, SessionDescription
from aiortc.stats import RTCTransportStats
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from lipwright.contract import FPS, FRAME_MS, FloatArray
from lipwright.errors import LipwrightError
from lipwright.serve.engine import Engine, Seat
from lipwright.serve.protocol import Command, ProtocolError, parse, text
from lipwright.serve.safety import Bucket, Policy, error_body
from lipwright.serve.session import LiveFrame, SessionOptions

logger = logging.getLogger(__name__)

#: What Opus is decoded to and encoded from, samples a second.
OPUS_RATE = 48_000
#: RTP clock of pictures.
VIDEO_CLOCK = 90_000
#: Packets of sound in a frame: Opus packets of 20 ms.
PACKETS = 2
#: A peer from which no packet came for so many seconds is lost; looked at every ``LOOK_SECONDS``.
LOST_SECONDS = 4.0
LOOK_SECONDS = 0.5
#: Those who may watch one session: every one costs an encoder.
WATCHERS = 4
#: Pictures that wait for the encoder of one peer, and frames whose sound waits; beyond that the oldest go.
WAITING_PICTURES = 2
WAITING_SOUNDS = 10
OFFER_BYTES = 64 * 2**10
SDP = "application/sdp"
_ANY = ("0.0.0.0", "::", "")
_RETRY = {"Retry-After": "2"}


class OfferError(LipwrightError):
    """An SDP offer cannot be answered."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def attach(app: FastAPI, engine: Engine, policy: Policy) -> WebRtcDoor:
    """Add the routes of WebRTC to ``app``; the door that is returned ends all peers when it is stopped."""
    door = WebRtcDoor(engine, policy)
    app.include_router(_routes(door, policy.limits.hello_seconds))
    return door


# --- tracks -----------------------------------------------------------------------------------------------------------


class Outlet:
    """What one peer sees and hears of a session.

    The sound of a frame leaves when its picture has left, so RTCP ties both to the same moment whatever encoding
    takes: receivers line the streams up by when they were sent. Sounds leave in their order, also those of frames
    without a picture: a slow encoder costs pictures, and the sound behind it waits.

    Args:
        seat: whose frames.
        left: called when a frame has left.
        sound: whether the peer wants sound.
        picture: whether it wants pictures.
    """

    def __init__(self, seat: Seat, left: Callable[[LiveFrame], None], sound: bool, picture: bool) -> None:
        self.seat = seat
        self.sound = SoundTrack(self) if sound else None
        self.picture = PictureTrack(self) if picture else None
        self._left = left
        self._waiting: deque[_Waiting] = deque()
        self._sounds: deque[LiveFrame] = deque()
        self._changed = asyncio.Condition()

    async def offer(self, frame: LiveFrame) -> None:
        """The next frame of the session."""
        async with self._changed:
            self._waiting.append(_Waiting(frame, self.picture is not None and frame.picture is not None))
            for late in self._to_encode()[:-WAITING_PICTURES]:
                late.pictured = False
            if len(self._waiting) > WAITING_SOUNDS:  # an encoder that stands still shall not keep the sound
                self._waiting[0].pictured = False
            self._release()

    async def next_picture(self, before: LiveFrame | None) -> LiveFrame:
        """The next frame with a picture; ``before`` is the one whose packets have just been sent."""
        async with self._changed:
            if before is not None:
                self._left(before)
                for sent in (entry for entry in self._waiting if entry.frame is before):
                    sent.pictured = False
                self._release()
            while True:
                await self._changed.wait_for(self._to_encode)
                entry = self._to_encode()[0]
                if not self.seat.stale(entry.frame):
                    entry.encoding = True
                    return entry.frame
                entry.pictured = False
                self._release()

    async def next_sound(self) -> LiveFrame:
        """The next frame whose sound may leave."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._sounds)
            return self._sounds.popleft()

    def _to_encode(self) -> list[_Waiting]:
        return [entry for entry in self._waiting if entry.pictured and not entry.encoding]

    def _release(self) -> None:
        """Let go the sound of the frames, in their order, that wait for no picture any more."""
        while self._waiting and not self._waiting[0].pictured:
            self._sounds.append(self._waiting.popleft().frame)
        while len(self._sounds) > WAITING_SOUNDS:
            self._sounds.popleft()
        self._changed.notify_all()


@dataclass
class _Waiting:
    """A frame whose sound has not been let go yet."""

    frame: LiveFrame
    pictured: bool
    """Whether its sound waits until its picture has left."""
    encoding: bool = False
    """Whether the picture is on its way."""


class PictureTrack(MediaStreamTrack):
    """The pictures of an outlet; those of an older generation are left out."""

    kind = "video"

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet
        self._before: LiveFrame | None = None

    async def recv(self) -> av.VideoFrame:
        """See aiortc. It asks again when the packets of the last picture have been sent."""
        frame = self._before = await self._outlet.next_picture(self._before)
        seen = frame.picture
        assert seen is not None, "the outlet hands out frames with pictures only"
        pixels = await asyncio.to_thread(lambda: seen.yuv)
        picture = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
        picture.pts = frame.sequence * VIDEO_CLOCK // FPS
        picture.time_base = Fraction(1, VIDEO_CLOCK)
        return picture


class SoundTrack(MediaStreamTrack):
    """The sound of an outlet in packets of 20 ms; what was interrupted becomes silence."""

    kind = "audio"

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet
        self._frame: LiveFrame | None = None
        self._part = PACKETS
        self._due = 0.0

    async def recv(self) -> av.AudioFrame:
        """See aiortc."""
        loop = asyncio.get_running_loop()
        if self._part == PACKETS:
            self._frame, self._part = await self._outlet.next_sound(), 0
            self._due = loop.time()
        await asyncio.sleep(self._due - loop.time())
        self._due += FRAME_MS / 1000 / PACKETS
        assert self._frame is not None
        packet = self._packet(self._frame, self._part)
        self._part += 1
        return packet

    def _packet(self, frame: LiveFrame, part: int) -> av.AudioFrame:
        samples = np.zeros_like(frame.samples) if self._outlet.seat.stale(frame) else frame.samples
        size = len(samples) // PACKETS
        piece = samples[part * size : (part + 1) * size, 0]
        whole = np.clip(np.rint(piece * 32768), -32768, 32767).astype(np.int16)
        packet = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
        packet.sample_rate = OPUS_RATE
        packet.pts = frame.sequence * len(samples) + part * size
        packet.time_base = Fraction(1, OPUS_RATE)
        return packet


def _mono(frame: av.AudioFrame) -> FloatArray:
    """A decoded packet of Opus (s16, interleaved) as float32 [n, 1], -1..1."""
    values = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    return np.asarray(values.mean(axis=1, keepdims=True) / 32768, np.float32)


# --- peers ------------------------------------------------------------------------------------------------------------


class Wish:
    """What an offer asks for.

    Args:
        sdp: the offer.

    Raises:
        OfferError: it is none, or one that cannot be answered.
    """

    def __init__(self, sdp: str) -> None:
        try:
            offer = SessionDescription.parse(sdp)
        except Exception as error:  # aiortc's parser raises what its own lines happen to raise
            raise OfferError(400, "sdp", "the body is no SDP offer that can be read") from error
        directions = {"audio": "inactive", "video": "inactive"}
        for part in offer.media:
            _hide_names(part)
            if part.kind not in directions:
                continue
            if directions[part.kind] != "inactive":
                raise OfferError(400, "sdp", f"the offer has more than one {part.kind} stream: send one of each kind")
            directions[part.kind] = part.direction or "sendrecv"
            if part.kind == "audio":
                _keep_opus(part)
        self.sdp = str(offer)
        self.speaks = directions["audio"] in ("sendonly", "sendrecv")
        self.hears = directions["audio"] in ("recvonly", "sendrecv")
        self.sees = directions["video"] in ("recvonly", "sendrecv")


def _keep_opus(part: MediaDescription) -> None:
    """Of the sound's codecs leave Opus alone, so that it is the one that is chosen.

    Raises:
        OfferError: it is not among them.
    """
    part.rtp.codecs = [codec for codec in part.rtp.codecs if codec.mimeType.lower() == "audio/opus"]
    part.fmt = [codec.payloadType for codec in part.rtp.codecs]
    if not part.fmt:
        raise OfferError(406, "codec", "the offer has no Opus among the codecs of its sound")


def _hide_names(part: MediaDescription) -> None:
    """Leave out candidates that are names, and wait for those that the other side's checks will show.

    Browsers hide addresses behind names of multicast DNS; asking for them would leave the address we are bound to.
    """
    part.ice_candidates = [candidate for candidate in part.ice_candidates if not candidate.ip.endswith(".local")]
    part.ice_candidates_complete = False


class Peer:
    """One connection: packets that come keep it alive, whatever ICE thinks.

    Args:
        wish: what the other side asks for.
        outlet: what it gets.
        touched: called when packets came.
        closed: called once, when it is over.
    """

    def __init__(
        self, wish: Wish, outlet: Outlet, touched: Callable[[], None], closed: Callable[[Peer, str], Awaitable[None]]
    ) -> None:
        self.id = secrets.token_hex(16)
        self.outlet = outlet
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._wish = wish
        self._touched = touched
        self._closed = closed
        self._over = False
        self._watch: asyncio.Task[None] | None = None

    async def answer(self, addresses: list[str]) -> str:
        """The answer to the offer, with all candidates.

        Raises:
            OfferError: it cannot be answered.
        """
        try:
            await self.connection.setRemoteDescription(RTCSessionDescription(self._wish.sdp, "offer"))
            self._add_tracks()
            _bind(self.connection, addresses)
            await self.connection.setLocalDescription(await self.connection.createAnswer())
        except Exception as error:  # aiortc raises what its own lines happen to raise
            await self.connection.close()
            raise OfferError(406, "sdp", f"the offer cannot be answered: {error}") from error
        self._watch = asyncio.create_task(self._watched())
        return self.connection.localDescription.sdp

    async def close(self, reason: str) -> None:
        """End it; harmless the second time."""
        if self._over:
            return
        self._over = True
        logger.info("peer %s: closed (%s)", self.id[:8], reason)
        if self._watch is not None and self._watch is not asyncio.current_task():
            self._watch.cancel()
        await self.connection.close()
        await self._closed(self, reason)

    def _add_tracks(self) -> None:
        for track in (self.outlet.sound, self.outlet.picture):
            if track is not None:
                self.connection.addTrack(track)
        for transceiver in self.connection.getTransceivers():
            if transceiver.kind == "video":
                transceiver.direction = "sendonly" if self._wish.sees else "inactive"

    async def _watched(self) -> None:
        loop = asyncio.get_running_loop()
        packets, alive = 0, loop.time()
        try:
            while self.connection.connectionState not in ("failed", "closed"):
                await asyncio.sleep(LOOK_SECONDS)
                now = await self._packets()
                if now > packets:
                    packets, alive = now, loop.time()
                    self._touched()
                elif loop.time() - alive > LOST_SECONDS:
                    break
        finally:  # whatever aiortc's figures come to: nobody is left unwatched
            await self.close("lost")

    async def _packets(self) -> int:
        """Packets that have come so far: sound, reports, messages; not ICE's own checks."""
        report = await self.connection.getStats()
        return sum(stats.packetsReceived for stats in report.values() if isinstance(stats, RTCTransportStats))


def _bind(connection: RTCPeerConnection, addresses: list[str]) -> None:
    """Let ICE use these addresses alone. It takes all but loopback, and neither library has an option for that."""
    transports = [transceiver.receiver.transport for transceiver in connection.getTransceivers()]
    if connection.sctp is not None:
        transports.append(connection.sctp.transport)
    for transport in transports:
        _bind_gatherer(transport.transport.iceGatherer, addresses)


def _bind_gatherer(gatherer: RTCIceGatherer, addresses: list[str]) -> None:
    ice: Any = gatherer._connection
    candidates = type(ice).get_component_candidates

    async def bound(component: int, **_all_addresses: object) -> object:
        return await candidates(ice, component=component, addresses=addresses)

    ice.get_component_candidates = bound


def _addresses(host: str) -> list[str]:
    """Where a server that is bound to ``host`` takes packets."""
    if host in _ANY:
        return get_host_addresses(use_ipv4=True, use_ipv6=host == "::")
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return sorted({str(address[0]) for *_, address in found})


# --- sessions ---------------------------------------------------------------------------------------------------------


class Show:
    """One session: who speaks, and who watches.

    Args:
        seat: its place in the engine.
        messages_per_second: what the speaker may send over the data channel.
    """

    def __init__(self, seat: Seat, messages_per_second: float) -> None:
        self.seat = seat
        self._most = messages_per_second
        self._rate = Bucket(messages_per_second, time.monotonic())
        self.speaker: Peer | None = None
        self.watchers: list[Peer] = []
        self._channel: RTCDataChannel | None = None
        self._sent = -1
        self._tasks: set[asyncio.Task[None]] = set()

    def outlet(self, wish: Wish) -> Outlet:
        """Another way out of it."""
        return Outlet(self.seat, self._left, wish.hears, wish.sees)

    def begin(self, peer: Peer) -> None:
        """Listen to ``peer``, before its offer is answered."""
        self.speaker = peer
        peer.connection.on("track", self._on_track)
        peer.connection.on("datachannel", self._on_channel)
        self._start(self._play())

    async def end(self, reason: str) -> None:
        """Give the place back and end all peers; harmless the second time."""
        self.seat.close(reason)
        for peer in [*self.watchers, *([self.speaker] if self.speaker else [])]:
            await peer.close(reason)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def _play(self) -> None:
        while (frame := await self.seat.frame()) is not None:
            for peer in [*([self.speaker] if self.speaker else []), *self.watchers]:
                await peer.outlet.offer(frame)
            if frame.last:
                self._tell(text("spoken", generation=frame.generation))
        await self.end(self.seat.closed or "bye")

    def _left(self, frame: LiveFrame) -> None:
        """A frame has left by one of the outlets; the first counts."""
        if frame.sequence > self._sent:
            self._sent = frame.sequence
            self.seat.sent(frame)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._start(self._hear(track))

    async def _hear(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.AudioFrame)
            # aiortc counts time stamps from its first packet on, by the source's clock.
            self.seat.push(_mono(frame), frame.pts)

    def _on_channel(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        channel.on("message", self._obey)

    def _obey(self, message: str | bytes) -> None:
        if not self._rate.allows(time.monotonic()):
            if self.seat.closed is None:
                self._tell(text("error", code="rate", message=f"more than {self._most:g} messages a second"))
                self._start(self.end("rate"))
            return
        try:
            command = parse(message if isinstance(message, str) else "")
        except ProtocolError as error:
            self._tell(text("error", code=error.code, message=str(error)))
            return
        if not isinstance(command, Command):
            self._tell(text("error", code="hello", message="there is no hello over WebRTC"))
        elif command.type == "interrupt":
            self._tell(text("interrupted", generation=self.seat.interrupt()))
        elif command.type == "end":
            self.seat.end()
        elif command.type == "stats":
            self._tell(text("stats", **self.seat.stats()))
        else:
            self._start(self.end("bye"))

    def _tell(self, message: dict[str, Any]) -> None:
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(json.dumps(message))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("session %s: %s", self.seat.id, error)
            self._start(self.end(f"error: {error}"))


class WebRtcDoor:
    """All sessions over WebRTC.

    Args:
        engine: draws.
        policy: where the server is bound, and its limits.
    """

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self._engine = engine
        self._addresses = _addresses(policy.host)
        self._messages_per_second = policy.limits.messages_per_second
        self._shows: dict[str, Show] = {}
        self._peers: dict[str, tuple[Peer, Show]] = {}

    async def start(self) -> None:
        """Nothing is to be started: the routes are there."""

    async def stop(self) -> None:
        """End all sessions."""
        for show in list(self._shows.values()):
            await show.end("the server is being shut down")

    async def speak(self, avatar: str, wish: Wish, lookahead: int | None) -> tuple[str, str]:
        """A new session for a microphone: its id and the answer.

        Raises:
            OfferError: the offer cannot be answered.
            EngineFullError: no more sessions can be drawn at 25 fps.
            NoSuchAvatarError: there is no avatar of that name here.
        """
        if not wish.speaks:
            raise OfferError(400, "sdp", "the offer sends no sound: to watch, post it to .../whep")
        seat = self._engine.open(avatar, SessionOptions("live", OPUS_RATE, 1, lookahead), "webrtc")
        show = Show(seat, self._messages_per_second)
        peer = Peer(wish, show.outlet(wish), seat.touch, self._over)
        show.begin(peer)
        self._shows[peer.id] = show
        self._peers[peer.id] = (peer, show)
        try:
            return peer.id, await peer.answer(self._addresses)
        except OfferError:
            await peer.close("offer")
            raise

    async def watch(self, avatar: str, wish: Wish, session: str | None) -> tuple[str, str] | None:
        """One more who watches ``session``, or the latest of ``avatar``: id and answer; None: there is nothing to see.

        Raises:
            OfferError: the offer cannot be answered, or too many watch already.
        """
        self._engine.face(avatar)
        shows = [show for id_, show in self._shows.items() if show.seat.name == avatar and session in (None, id_)]
        if not shows:
            return None
        show = shows[-1]
        if not (wish.hears or wish.sees):
            raise OfferError(400, "sdp", "the offer receives neither sound nor pictures")
        if len(show.watchers) >= WATCHERS:
            raise OfferError(503, "full", f"{WATCHERS} watch this session already")
        peer = Peer(wish, show.outlet(wish), lambda: None, self._over)
        show.watchers.append(peer)
        self._peers[peer.id] = (peer, show)
        try:
            return peer.id, await peer.answer(self._addresses)
        except OfferError:
            await peer.close("offer")
            raise

    async def close(self, id_: str) -> bool:
        """End the peer of that id, and its session if it is the speaker; False: there is none."""
        if id_ not in self._peers:
            return False
        await self._peers[id_][0].close("bye")
        return True

    def interrupt(self, id_: str) -> int | None:
        """Interrupt the session whose speaker has that id; the new generation. None: there is none."""
        show = self._shows.get(id_)
        return None if show is None else show.seat.interrupt()

    async def _over(self, peer: Peer, reason: str) -> None:
        _, show = self._peers.pop(peer.id)
        if peer is show.speaker:
            self._shows.pop(peer.id)
            await show.end(reason)
        else:
            show.watchers.remove(peer)


# --- routes -----------------------------------------------------------------------------------------------------------


def _routes(door: WebRtcDoor, seconds: float) -> APIRouter:
    """``seconds``: in which an offer must come."""
    routes = APIRouter(tags=["webrtc"])

    @routes.post("/v1/avatars/{name}/whip", status_code=201, response_class=Response)
    async def whip(request: Request, name: str, lookahead: int | None = None) -> Response:
        """Speak: an SDP offer that sends sound; if it also receives, the avatar comes back on the same connection."""
        try:
            return _created(*await door.speak(name, Wish(await _offer(request, seconds)), lookahead))
        except OfferError as error:
            return _refused(error)

    @routes.post("/v1/avatars/{name}/whep", status_code=201, response_class=Response)
    async def whep(request: Request, name: str, session: str | None = None) -> Response:
        """Watch what somebody makes this avatar say: ``session`` or the latest; 404 where there is none."""
        try:
            answer = await door.watch(name, Wish(await _offer(request, seconds)), session)
        except OfferError as error:
            return _refused(error)
        if answer is None:
            return JSONResponse(error_body("session", "nobody speaks through this avatar now"), 404, _RETRY)
        return _created(*answer)

    @routes.delete("/v1/webrtc/{peer}", response_class=Response)
    async def close(peer: str) -> Response:
        """Hang up."""
        return Response() if await door.close(peer) else _no_peer()

    @routes.post("/v1/webrtc/{peer}/interrupt")
    async def interrupt(peer: str) -> Response:
        """Barge-in for clients without a data channel."""
        generation = door.interrupt(peer)
        return _no_peer() if generation is None else JSONResponse(text("interrupted", generation=generation))

    return routes


async def _offer(request: Request, seconds: float) -> str:
    """The body of ``request``, which must come in so many seconds.

    Raises:
        OfferError: it is no SDP, too long, or does not come.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != SDP:
        raise OfferError(415, "sdp", f"send the SDP offer as {SDP}")
    try:
        async with asyncio.timeout(seconds):
            return (await _body(request)).decode(errors="replace")
    except TimeoutError as error:
        raise OfferError(408, "stalled", f"the offer did not come in {seconds:g} s") from error
    except ClientDisconnect as error:
        raise OfferError(400, "cut_short", "the offer was broken off") from error


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > OFFER_BYTES:
            raise OfferError(413, "too_large", f"the offer is larger than {OFFER_BYTES} bytes")
    return body


def _created(peer: str, sdp: str) -> Response:
    return Response(sdp, 201, {"Location": f"/v1/webrtc/{peer}"}, media_type=SDP)


def _refused(error: OfferError) -> Response:
    headers = _RETRY if error.status == 503 else None
    return JSONResponse(error_body(error.code, str(error)), error.status, headers)


def _no_peer() -> Response:
    return JSONResponse(error_body("peer", "there is no such connection: it has ended"), 404)
