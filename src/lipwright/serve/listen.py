"""The listening side of uvicorn: connections that say when they are ready for more, and that are given up in time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any, cast

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from lipwright.errors import LipwrightError
from lipwright.serve.safety import Limits

#: Name of the ASGI extension of a WebSocket that waits until the connection takes more.
WRITABLE = "lipwright.writable"
#: A ping every so many seconds, and how long its answer may take: together less than the 5 s in which a lost client
#: must be noticed.
PING_EVERY = 1.0
PING_ANSWER = 3.0
#: Seconds in which a client must answer the server's goodbye.
GOODBYE = 2.0
#: Bytes that the system holds unsent: a tenth of a second of pictures. What lies there cannot be taken back.
UNSENT_BYTES = 64 * 2**10
#: Milliseconds after which the system gives up a connection whose data is not acknowledged.
UNACKNOWLEDGED_MS = 5000
#: Connections at once.
CONNECTIONS = 512
#: Seconds in which open connections may end when the server stops.
GRACE_SECONDS = 3
#: Bytes of a request's head.
HEAD_BYTES = 16 * 2**10


class WatchedSocket(WebSocketsSansIOProtocol):
    """A WebSocket without a long queue behind it, dropped at once when pings are not answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The upgrade begins."""
        super().connection_made(transport)
        self.close_timeout = GOODBYE  # uvicorn's own 10 s would keep a client that said no hello for 15
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=0)
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            _set_option(connection, "TCP_NOTSENT_LOWAT", UNSENT_BYTES)
            _set_option(connection, "TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS)

    def handle_connect(self, event: Any) -> None:
        """The head of the upgrade has come."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope)["extensions"][WRITABLE] = self.writable.wait

    async def send(self, message: Any) -> None:
        """Hand something of the app to the client."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # a refused upgrade is answered: nothing is missing

    def shutdown(self) -> None:
        """The server stops. A client that has just said goodbye is not told so again: uvicorn 0.54 fails at that."""
        if self.transport.is_closing():
            self.loop.call_later(GOODBYE, self.transport.abort)  # TLS would wait half a minute for its own goodbye
        else:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        """No answer to a ping: closing would wait until a peer that is gone has read everything."""
        super().keepalive_timeout()
        self.transport.abort()


class PatientHttp(H11Protocol):
    """HTTP/1.1 that gives up connections whose next request does not come, whole, in time."""

    head_seconds = Limits().hello_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._idle = False
        self._watch = self.loop.call_later(self.head_seconds / 2, self._look)

    def data_received(self, data: bytes) -> None:
        """Something of a request has come."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._idle = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self.transport.get_protocol() is not self:
            return  # it is a WebSocket now
        cycle: RequestResponseCycle | None = self.cycle
        answered = cycle is None or cycle.response_complete
        idle = answered and self.conn.their_state is h11.IDLE
        if idle and self._idle:
            self.transport.abort()
            return
        self._idle = idle
        self._watch = self.loop.call_later(self.head_seconds / 2, self._look)


def _set_option(connection: socket.socket, name: str, value: int) -> None:
    """Where the system knows it."""
    option = getattr(socket, name, None)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; ``port`` 0 lets the system choose.

    Raises:
        LipwrightError: there is no such address here, or it is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise LipwrightError(
            f"{host} port {port} cannot be listened on ({error.strerror}): choose another --port or --host, "
            "or end what uses it"
        ) from error


def address_of(listening: socket.socket) -> str:
    """Host and port as in a URL."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server(app: FastAPI, limits: Limits, certificate: Path | None = None, key: Path | None = None) -> uvicorn.Server:
    """A server that is ready to run on the sockets of ``bind``, by ``run`` or ``serve``.

    Args:
        app: what ``create_app`` made.
        limits: those of the policy.
        certificate: PEM file for https and wss.
        key: PEM file of its private key.

    Raises:
        LipwrightError: certificate and key do not fit, or cannot be read.
    """
    config = uvicorn.Config(
        app,
        http=PatientHttp,
        ws=WatchedSocket,
        ws_max_size=limits.message_bytes,
        ws_ping_interval=PING_EVERY,
        ws_ping_timeout=PING_ANSWER,
        ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=GRACE_SECONDS,
        # More than warnings would hold whole messages and query strings.
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise LipwrightError(
            f"{certificate} with {key} cannot be used for TLS ({error}): both must be PEM files that belong together"
        ) from error
    return uvicorn.Server(config)
