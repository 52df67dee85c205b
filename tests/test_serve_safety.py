"""Who may use the server: hosts, origins, tokens, rates, names, logs; asked over real sockets."""

from __future__ import annotations

import ast
import json
import logging
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from avatars import Parts, make_avatar
from lipwright import LipwrightError
from lipwright.cli import main
from lipwright.serve.engine import Engine
from lipwright.serve.http import create_app
from lipwright.serve.listen import PatientHttp, server
from lipwright.serve.safety import Bucket, Limits, Policy, is_loopback
from lipwright.serve.webrtc import attach
from live import costly_face, ended, raw, running, serving, small_avatar

pytestmark = pytest.mark.alone

TOKEN = "a-secret-of-many-characters"
SOURCE = Path(__file__).parent.parent / "src" / "lipwright"
FAST = Limits(requests_per_second=10_000)
UPGRADE = (
    b"GET /v1/avatars/tiny/stream HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: A masked close frame without a reason, RFC 6455 5.5.1.
GOODBYE = b"\x88\x80\0\0\0\0"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(costly_face(small_avatar(tmp_path_factory.mktemp("safety")))[0], sessions=2) as started:
        yield started


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    """A server without a token, as on loopback."""
    with serving(engine, Policy(origins=("https://friend.example",), hosts=("avatar.example",), limits=FAST)) as found:
        yield found


@pytest.fixture(scope="module")
def locked(engine: Engine) -> Iterator[str]:
    """A server with a token."""
    with serving(engine, Policy(token=TOKEN, limits=FAST)) as found:
        yield found


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


# --- hosts and origins ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "localhost", "[::1]:80", "10.0.0.7", "avatar.example", "AVATAR.example"]
)
def test_these_names_are_ours(address: str, host: str) -> None:
    assert httpx.get(f"http://{address}/v1/avatars", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "a@localhost", "", "x/y"])
def test_other_names_are_refused_against_dns_rebinding(address: str, host: str) -> None:
    for path in ("/v1/avatars", "/healthz", "/"):
        answer = httpx.get(f"http://{address}{path}", headers={"Host": host})
        assert (answer.status_code, code(answer)) == (421, "host")


def test_two_hosts_are_refused(address: str) -> None:
    with raw(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n") as connection:
        assert connection.recv(64).split()[1] in (b"400", b"421")


def test_only_our_pages_and_friends_may_ask(address: str) -> None:
    url = f"http://{address}/v1/avatars"
    for origin in (f"http://{address}", f"https://{address}", "https://friend.example"):
        assert httpx.get(url, headers={"Origin": origin}).status_code == 200
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "file://",
        f"ftp://{address}",
        "https://friend",
        "http://[::1",
    ):
        answer = httpx.get(url, headers={"Origin": origin})
        assert (answer.status_code, code(answer)) == (403, "origin")


def test_pages_of_friends_may_read_the_answers(engine: Engine) -> None:
    friend = {"Origin": "https://friend.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    policy = Policy(token=TOKEN, origins=("https://friend.example",), limits=FAST)
    with serving(engine, policy) as address:
        url = f"http://{address}/v1/avatars"
        preflight = httpx.options(url, headers=friend | asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == friend["Origin"]
        answer = httpx.get(url, headers=friend | {"Authorization": f"Bearer {TOKEN}"})
        assert answer.headers["access-control-allow-origin"] == friend["Origin"]
        assert httpx.options(url, headers={"Origin": "http://evil.example"} | asked).status_code == 403
        assert httpx.options(url).status_code == 401


def test_upgrades_are_checked_as_requests_are(address: str) -> None:
    url = f"ws://{address}/v1/avatars/tiny/stream"
    for headers, status in (({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 421)):
        connection = raw(
            address,
            b"GET /v1/avatars/tiny/stream HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            + b"".join(f"{k}: {v}\r\n".encode() for k, v in ({"Host": address} | headers).items())
            + b"\r\n",
        )
        with connection:
            assert connection.recv(64).split()[1] == str(status).encode()
    with pytest.raises(InvalidStatus), connect(url, origin=Origin("http://evil.example")):
        pass
    with connect(url, origin=Origin(f"http://{address}")):
        pass


def test_every_answer_says_what_browsers_may_do(address: str) -> None:
    for path in ("/", "/docs", "/static/page.js", "/v1/avatars", "/nothing"):
        headers = httpx.get(f"http://{address}{path}").headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["permissions-policy"].startswith("microphone=(self)")
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_parameters_that_do_not_fit_are_refused_in_the_one_form(engine: Engine) -> None:
    with serving(engine, Policy(limits=FAST), attachments=[attach]) as address:
        answer = httpx.post(f"http://{address}/v1/avatars/tiny/whip?lookahead=far")
    assert (answer.status_code, code(answer)) == (400, "request")
    assert "lookahead" in answer.json()["error"]["message"]


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_the_token_is_wanted_wherever_something_is_given(locked: str) -> None:
    for path in ("/v1/avatars", "/v1/avatars/tiny/poster.jpg", "/v1/jobs/x", "/metrics", "/nothing"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Basic x"}):
            answer = httpx.get(f"http://{locked}{path}", headers=headers)
            assert (answer.status_code, code(answer)) == (401, "token")
            assert answer.headers["www-authenticate"] == "Bearer"
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"http://{locked}/v1/avatars", headers=good).status_code == 200
    assert httpx.get(f"http://{locked}/healthz").status_code == 200
    assert httpx.get(f"http://{locked}/readyz").status_code == 200


def test_a_server_for_others_needs_a_token() -> None:
    with pytest.raises(LipwrightError, match="LIPWRIGHT_TOKEN"):
        Policy(host="0.0.0.0")
    with pytest.raises(LipwrightError, match="fewer than 16"):
        Policy(host="0.0.0.0", token="short")
    assert Policy(host="0.0.0.0", token=TOKEN).token_ok(TOKEN)
    assert not Policy(token=TOKEN).token_ok(None)
    assert not Policy(token=TOKEN).token_ok("ö" * 30)
    assert TOKEN not in repr(Policy(token=TOKEN))


@pytest.mark.parametrize(
    ("host", "ours"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_what_loopback_is(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours


# --- rates, names, heads --------------------------------------------------------------------------------------------


def test_a_bucket_lets_bursts_through_and_then_the_rate() -> None:
    bucket = Bucket(10, 0.0)
    assert sum(bucket.allows(0.0) for _ in range(100)) == 20
    assert sum(bucket.allows(1 + k / 1000) for k in range(100)) in (10, 11)


def test_too_many_requests_are_refused(engine: Engine) -> None:
    with serving(engine, Policy(limits=Limits(requests_per_second=2))) as address, httpx.Client() as client:
        answers = [client.get(f"http://{address}/healthz") for _ in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert code(refused[0]) == "rate"
    assert refused[0].headers["retry-after"] == "1"


@pytest.mark.parametrize("name", ["..%2ftiny", "%2e%2e", "tiny%00", "..%5c..%5cetc", "tiny.avatar", "%ff"])
def test_avatar_names_cannot_leave_their_folder(address: str, name: str) -> None:
    for method, path in (("GET", "poster.jpg"), ("POST", "render")):
        answer = httpx.request(method, f"http://{address}/v1/avatars/{name}/{path}", content=b"x")
        assert answer.status_code == 404
        assert "/tmp" not in answer.text


def test_a_head_that_does_not_end_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientHttp, "head_seconds", 0.8)
    with raw(address, b"GET /healthz HTTP/1.1\r\nHost: loc") as connection:
        assert ended(connection, 8)
    with raw(address, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100_000) as connection:
        assert ended(connection, 8)


# --- what is written ------------------------------------------------------------------------------------------------


def test_the_log_holds_no_token_and_no_sound(locked: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    httpx.get(f"http://{locked}/v1/avatars?token={TOKEN}", headers={"Authorization": f"Bearer {TOKEN}"})
    with connect(f"ws://{locked}/v1/avatars/tiny/stream") as socket:
        socket.send(json.dumps({"type": "hello", "version": 1, "token": TOKEN, "picture": {"format": "none"}}))
        assert '"ready"' in str(socket.recv())
        socket.send(b"sound that must stay secret " * 20)
        socket.recv()
    with connect(f"ws://{locked}/v1/avatars/tiny/stream") as socket:
        socket.send(json.dumps({"type": "hello", "version": 1, "token": TOKEN, "wrong": 1}))
        assert TOKEN not in str(socket.recv())
    names = ("lipwright", "uvicorn")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(names)]
    assert any("session" in line for line in ours)
    assert not [line for line in ours if TOKEN in line or "secret" in line]


def test_no_pickle_anywhere() -> None:
    for module in (SOURCE / "serve").rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not names & {"pickle", "marshal", "shelve", "dill", "torch"}, module


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_refuses_what_is_not_safe_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LIPWRIGHT_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, word in (
            (["--host", "0.0.0.0"], "LIPWRIGHT_TOKEN"),
            (["--tls-cert", "cert.pem"], "both --tls-cert and --tls-key"),
            (["--port", port], f"port {port} cannot be listened on"),
            (["--host", "203.0.113.7"], "LIPWRIGHT_TOKEN"),
        ):
            with pytest.raises(SystemExit) as left:
                main(["serve", *arguments])
            said = capsys.readouterr().err
            assert left.value.code == 1
            assert word in said
            assert said.count("\n") == 1


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path, Parts(6, 160, 144))
    whole = [sys.executable, "-m", "lipwright", "serve", str(avatar.path), "--port", "0", "--runtime", "onnxruntime"]
    with subprocess.Popen([*whole, "--lookahead", "2"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while not lines or "http://" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        url = lines[-1].split()[-1]
        found = httpx.get(f"{url}/v1/avatars").json()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert found["lookahead_ms"] == 212.5
    assert any("look-ahead 2: 212.5 ms" in line for line in lines)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine and its private key."""
    folder = tmp_path_factory.mktemp("pair")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    return certificate, key


def test_tls(engine: Engine, pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    with serving(engine, Policy(limits=FAST), certificate, key) as address:
        context = ssl.create_default_context(cafile=str(certificate))
        assert httpx.get(f"https://{address}/healthz", verify=context).status_code == 200
        with connect(f"wss://{address}/v1/avatars/tiny/stream", ssl=context) as connection:
            connection.send(json.dumps({"type": "hello", "version": 1}))
            assert json.loads(connection.recv(20))["type"] == "ready"
    with pytest.raises(LipwrightError, match="must be PEM files that belong together"):
        server(create_app(engine, Policy()), Limits(), key, certificate)


def test_a_server_that_stops_while_a_client_says_goodbye_is_silent(engine: Engine, pair: tuple[Path, Path]) -> None:
    """The client has said goodbye and been answered; its TLS stays open, so the server holds the connection still."""
    certificate, key = pair
    context = ssl.create_default_context(cafile=str(certificate))
    with serving(engine, Policy(limits=FAST), certificate, key) as address:
        head = UPGRADE.replace(b"HOST", address.encode())
        client = context.wrap_socket(raw(address, b""), server_hostname="127.0.0.1")
        client.settimeout(20)
        client.sendall(head)
        assert b" 101 " in client.recv(65536)
        client.sendall(GOODBYE)
        assert client.recv(65536).startswith(b"\x88"), "the answer is a close frame"
    client.close()
