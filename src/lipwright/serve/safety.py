"""What stands before every door: who may ask, from where, how much and how often.

A server on the own machine is reached by every page that its user visits: a browser sends requests and opens
WebSockets to 127.0.0.1 for anybody. So Host and Origin are checked on every request and upgrade, also on loopback.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lipwright.errors import LipwrightError

logger = logging.getLogger(__name__)

#: The environment variable that holds the token.
TOKEN_VARIABLE = "LIPWRIGHT_TOKEN"
#: A token shorter than this can be guessed.
TOKEN_LENGTH = 16
#: What needs no token: the page, which brings it in its first message, and whether the server lives.
OPEN_PATHS = ("/", "/healthz", "/readyz", "/favicon.ico", "/docs", "/openapi.json")
OPEN_FOLDER = "/static/"
#: Addresses whose rate is remembered at most.
REMEMBERED = 1024
#: What browsers may load and do on our pages: our own files, and sockets back to us.
CONTENT_SECURITY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; connect-src 'self' ws: wss:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
_HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
    # Films hold somebody's voice: nothing of them stays in a browser's cache.
    (b"cache-control", b"no-store"),
]

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]
App = Callable[[Scope, Receive, Send], Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how often; each has its own clear answer."""

    upload_bytes: int = 200 * 2**20
    """Of a sound file to be rendered: 413."""
    upload_seconds: float = 3600.0
    """Its length: 413."""
    jobs: int = 8
    """Render jobs that wait or run: 503 with Retry-After."""
    message_bytes: int = 2**20
    """Of one WebSocket message: close code 1009."""
    messages_per_second: float = 200.0
    """Of one WebSocket: close code 1008."""
    pushed_seconds: float = 60.0
    """Pushed sound that may wait to be spoken: error ``too_far_ahead``, the message is not taken."""
    requests_per_second: float = 50.0
    """Of one address, WebSocket upgrades among them, twice as many in a burst: 429 with Retry-After."""
    hello_seconds: float = 5.0
    """In which the first message of a WebSocket must come, or the head of a request: close code 1008."""


class Bucket:
    """A rate: so many a second, twice as many in a burst.

    Args:
        per_second: how many.
        now: seconds on a clock that never goes back.
    """

    def __init__(self, per_second: float, now: float) -> None:
        self._rate = per_second
        self._room = 2 * per_second
        self._then = now

    def allows(self, now: float) -> bool:
        """Whether one more is within the rate; it is counted then."""
        self._room = min(self._room + (now - self._then) * self._rate, 2 * self._rate)
        self._then = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


@dataclass(frozen=True)
class Policy:
    """Who may use the server.

    Raises:
        LipwrightError: it is to be reached from elsewhere without a token, or with one that is too short.
    """

    host: str = "127.0.0.1"
    """Address it is bound to."""
    token: str | None = field(default=None, repr=False)
    """What clients must bring; None: nothing, only on loopback."""
    hosts: tuple[str, ...] = ()
    """Further names by which it may be called, besides localhost, this machine's name and any plain address."""
    origins: tuple[str, ...] = ()
    """Further pages that may use it: ``https://example.org``, ``http://localhost:5173``."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < TOKEN_LENGTH:
            raise LipwrightError(f"{TOKEN_VARIABLE} has fewer than {TOKEN_LENGTH} characters: choose a longer one")
        if self.token is None and not is_loopback(self.host):
            raise LipwrightError(
                f"a server on {self.host} can be reached from other machines: put a secret of at least {TOKEN_LENGTH} "
                f"characters into the environment variable {TOKEN_VARIABLE}, or bind it to 127.0.0.1"
            )

    def token_ok(self, given: str | None) -> bool:
        """Whether ``given`` is the token, compared in constant time; True where none is needed."""
        if self.token is None:
            return True
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def bearer_ok(self, authorization: str | None) -> bool:
        """The same for a header ``Authorization: Bearer TOKEN``."""
        kind, _, token = (authorization or "").partition(" ")
        return self.token_ok(token.strip() if kind.lower() == "bearer" else None)

    def host_ok(self, host: str | None) -> bool:
        """Whether a Host header names this server.

        A plain address is fine: a page of elsewhere reaches us under its own name only (DNS rebinding).
        """
        name = _name(host)
        return name is not None and (_is_address(name) or name in self._names())

    def origin_ok(self, origin: str | None, host: str | None) -> bool:
        """Whether the page that asks is ours or one that is allowed; programs send no Origin."""
        if origin is None or origin in self.origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and bool(parts.netloc) and parts.netloc.lower() == (host or "").lower()

    def _names(self) -> set[str]:
        return {"localhost", socket.gethostname().lower(), *(name.lower() for name in self.hosts)}


def is_loopback(host: str) -> bool:
    """Whether an address to bind to is reached from this machine alone."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host.strip("[]")).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _name(host: str | None) -> str | None:
    """The name in a Host header without its port; None if it is no name."""
    if not host or any(sign in host for sign in "/\\@ ,"):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    code: str
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Guard:
    """The outermost layer of the app: refuses what the policy does not allow, before anything is read of it.

    Args:
        app: what it guards.
        policy: who may.
        refused: called for every refusal.
        clock: seconds that never go back.
    """

    def __init__(
        self, app: App, policy: Policy, refused: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._policy = policy
        self._refused = refused
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)
            return
        self._refused()
        logger.info("refused %s from %s: %s", scope["type"], _address(scope), refusal.code)
        await _answer(refusal, "websocket.http.response" if scope["type"] == "websocket" else "http.response", send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = _Headers(scope)
        host, origin = headers.only("host"), headers.only("origin")
        if headers.count("host") != 1 or not self._policy.host_ok(host):
            return Refusal(421, "host", "this server does not answer to that name: allow it with --allow-host")
        if headers.count("origin") > 1 or not self._policy.origin_ok(origin, host):
            return Refusal(403, "origin", "pages of that origin may not use this server: allow it with --allow-origin")
        if not self._in_rate(_address(scope)):
            return Refusal(429, "rate", "too many requests from this address", ((b"retry-after", b"1"),))
        asks_first = scope.get("method") == "OPTIONS" and origin is not None  # browsers do so without any token
        if self._needs_token(scope) and not asks_first and not self._policy.bearer_ok(headers.only("authorization")):
            challenge = ((b"www-authenticate", b"Bearer"),)
            return Refusal(401, "token", f"send the header Authorization: Bearer {TOKEN_VARIABLE}", challenge)
        return None

    def _needs_token(self, scope: Scope) -> bool:
        """A WebSocket brings it in its first message: browsers cannot send headers there."""
        path = scope["path"]
        return scope["type"] == "http" and path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER)

    def _in_rate(self, address: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(address, Bucket(self._policy.limits.requests_per_second, now))
        self._buckets.move_to_end(address)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket.allows(now)


class _Headers:
    """The headers of a request, which may come more than once."""

    def __init__(self, scope: Scope) -> None:
        self._pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def count(self, name: str) -> int:
        return sum(1 for given, _ in self._pairs if given == name)

    def only(self, name: str) -> str | None:
        return next((value for given, value in self._pairs if given == name), None)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"


def _with_headers(send: Send) -> Send:
    """Every answer says what browsers may do with it."""

    async def wrapped(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return wrapped


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """The body of every error that the server answers with."""
    return {"error": {"code": code, "message": message}}


async def _answer(refusal: Refusal, kind: str, send: Send) -> None:
    body = json.dumps(error_body(refusal.code, refusal.message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *refusal.headers]
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": [*headers, *_HEADERS]})
    await send({"type": f"{kind}.body", "body": body})
