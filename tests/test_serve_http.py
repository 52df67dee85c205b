"""The HTTP door over real sockets: avatars, films, jobs, state, and what goes wrong."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import av
import cv2
import httpx
import numpy as np
import pytest

from avatars import NOBODY
from lipwright import Avatar
from lipwright.serve.engine import Engine
from lipwright.serve.http import create_app
from lipwright.serve.safety import Limits, Policy
from lipwright.serve.session import SessionOptions
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
from test_serve_websocket import client, received

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent
EXAMPLE = Path(__file__).parent.parent / "examples" / "http_client.py"
LIMITS = Limits(upload_bytes=2_000_000, upload_seconds=30, jobs=3, requests_per_second=10_000)


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return small_avatar(tmp_path_factory.mktemp("http"))


@pytest.fixture(scope="module")
def made(avatar: Avatar) -> Iterator[tuple[Engine, CostlyGenerator]]:
    face, generator = costly_face(avatar)
    with running(face, sessions=2) as engine:
        yield engine, generator


@pytest.fixture(scope="module")
def engine(made: tuple[Engine, CostlyGenerator]) -> Engine:
    return made[0]


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with serving(engine, Policy(limits=LIMITS)) as address:
        yield f"http://{address}"


@pytest.fixture
def slowly(made: tuple[Engine, CostlyGenerator]) -> Iterator[None]:
    """Drawing takes long enough to look at what is going on."""
    made[1].frame_ms = 50
    yield
    made[1].frame_ms = 0


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    write_wav(folder / "short.wav", noise(1.0, 22_050, channels=2), 22_050)
    write_wav(folder / "long.wav", noise(16.0, 8000), 8000)
    write_wav(folder / "endless.wav", noise(31.0, 8000), 8000)
    return folder


def film(data: bytes, folder: Path) -> tuple[int, int, int, int]:
    """Width, height, frames and hundredths of a second of sound."""
    path = folder / "answer.mp4"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert audio.duration is not None
        assert audio.time_base is not None
        return video.width, video.height, video.frames, round(100 * audio.duration * audio.time_base)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


# --- what there is ----------------------------------------------------------------------------------------------------


def test_avatars_and_poster(url: str) -> None:
    found = httpx.get(f"{url}/v1/avatars").json()
    assert found["capacity"] == 2
    assert found["lookahead_ms"] == 412.5
    (tiny,) = found["avatars"]
    assert (tiny["name"], tiny["width"], tiny["height"], tiny["fps"], tiny["frames"]) == ("tiny", WIDTH, HEIGHT, 25, 12)
    assert tiny["consent"].startswith(NOBODY.shown)
    assert tiny["marked"] is False
    answer = httpx.get(url + tiny["poster"])
    assert answer.headers["content-type"] == "image/jpeg"
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (HEIGHT, WIDTH, 3)


def test_unknown_things_are_404_in_one_form(url: str) -> None:
    for path in ("/v1/avatars/nobody/poster.jpg", "/v1/jobs/none", "/v1/jobs/none/result", "/nothing"):
        answer = httpx.get(url + path)
        assert answer.status_code == 404
        assert code(answer) in ("avatar", "job", "not_found")
    assert code(httpx.post(f"{url}/v1/avatars")) == "method"


def test_a_fault_of_our_own_is_told_in_the_one_form(engine: Engine) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("of the server's own making")

    app = create_app(engine, Policy(limits=LIMITS))
    app.add_api_route("/broken", fail)

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/broken")

    answer = asyncio.run(asked())
    assert (answer.status_code, code(answer)) == (500, "internal")
    assert "own making" not in answer.text


def test_openapi_names_every_endpoint(url: str) -> None:
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    assert {"/v1/avatars", "/v1/avatars/{name}/poster.jpg", "/v1/avatars/{name}/render", "/v1/jobs/{job_id}"} <= set(
        paths
    )
    assert {"/v1/jobs/{job_id}/result", "/healthz", "/readyz", "/metrics"} <= set(paths)
    assert httpx.get(f"{url}/docs").status_code == 200


def test_health_and_metrics(url: str, engine: Engine) -> None:
    assert httpx.get(f"{url}/healthz").text == "ok\n"
    assert httpx.get(f"{url}/readyz").status_code == 200
    with engine.open("tiny", SessionOptions("pushed"), "test") as seat:
        until(lambda: seat.session.delivered > 1)
        text = httpx.get(f"{url}/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines["lipwright_sessions"]) == 1
    assert float(lines["lipwright_sessions_capacity"]) == 2
    assert float(lines["lipwright_frames_total"]) >= 2
    assert float(lines['lipwright_draw_seconds{quantile="0.5"}']) > 0
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert all(line.split("{")[0].removesuffix("_sum").removesuffix("_count") in named for line in lines)


def test_the_docs_name_every_figure_and_no_other(engine: Engine) -> None:
    told = set(re.findall(r"`(lipwright_\w+)`", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")))
    text = engine.metrics.text(engine.gauges())
    assert told == {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def test_the_docs_name_tests_that_are_there() -> None:
    told = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")))
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert len(told) > 10
    assert [name for name in told if f"def {name}(" not in written] == []


def test_readyz_says_when_nothing_is_drawn(avatar: Avatar) -> None:
    asleep = Engine([costly_face(avatar)[0]], sessions=1)
    with serving(asleep) as address:
        assert httpx.get(f"http://{address}/readyz").status_code == 503


# --- films ------------------------------------------------------------------------------------------------------------


def test_a_short_sound_is_answered_with_its_film(url: str, sounds: Path, tmp_path: Path) -> None:
    answer = httpx.post(f"{url}/v1/avatars/tiny/render", content=(sounds / "short.wav").read_bytes(), timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert film(answer.content, tmp_path) == (WIDTH, HEIGHT, 25, 100)


def test_a_long_sound_is_a_job(url: str, sounds: Path) -> None:
    answer = httpx.post(f"{url}/v1/avatars/tiny/render", content=(sounds / "long.wav").read_bytes())
    assert answer.status_code == 202
    assert answer.json()["frames_expected"] == 400
    assert httpx.delete(url + answer.headers["location"]).status_code == 204


def test_a_job_says_how_far_it_is(url: str, sounds: Path, tmp_path: Path) -> None:
    headers = {"Prefer": "respond-async"}
    answer = httpx.post(f"{url}/v1/avatars/tiny/render", content=(sounds / "short.wav").read_bytes(), headers=headers)
    job = url + answer.headers["location"]
    seen = [httpx.get(job).json()]
    while seen[-1]["state"] in ("waiting", "running"):
        time.sleep(0.05)
        seen.append(httpx.get(job).json())
    done = [view["frames"] for view in seen]
    assert done == sorted(done)
    assert (seen[-1]["state"], seen[-1]["frames"]) == ("done", 25)
    assert film(httpx.get(url + seen[-1]["result"]).content, tmp_path) == (WIDTH, HEIGHT, 25, 100)
    assert httpx.delete(job).status_code == 204
    assert httpx.get(job).status_code == 404


def uploads() -> int:
    """Sounds that servers keep for their jobs."""
    return len(list(Path(tempfile.gettempdir()).glob("lipwright-*/*.sound")))


@pytest.mark.usefixtures("slowly")
def test_a_job_can_be_cancelled_and_others_wait_their_turn(url: str, engine: Engine, sounds: Path) -> None:
    content = (sounds / "short.wav").read_bytes()
    headers = {"Prefer": "respond-async"}
    answers = [httpx.post(f"{url}/v1/avatars/tiny/render", content=content, headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 503]
    assert code(answers[3]) == "jobs_full"
    assert int(answers[3].headers["retry-after"]) > 0
    first, second, third = (url + answer.headers["location"] for answer in answers[:3])
    until(lambda: httpx.get(first).json()["frames"] > 2)
    assert code(httpx.get(f"{first}/result")) == "not_done"
    assert httpx.get(first).json()["seconds_left"] > 0
    kept = uploads()
    assert httpx.delete(second).status_code == 204
    assert uploads() == kept - 1, "its sound waits for no turn"
    assert httpx.delete(first).status_code == 204
    until(lambda: httpx.get(third).json()["state"] == "done")
    assert httpx.delete(third).status_code == 204
    assert engine.ready


@pytest.mark.usefixtures("slowly")
def test_films_that_wait_hold_up_no_live_picture(engine: Engine, sounds: Path) -> None:
    """They wait in no thread of those in which live pictures are compressed."""
    content = (sounds / "short.wav").read_bytes()
    before = engine.metrics.value("lipwright_jobs_total")
    limits = Limits(jobs=12, requests_per_second=10_000)
    with serving(engine, Policy(limits=limits)) as address, ExitStack() as waiting:
        head = f"POST /v1/avatars/tiny/render HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(content)}\r\n\r\n"
        for _ in range(10):
            waiting.enter_context(raw(address, head.encode() + content))
        until(lambda: engine.metrics.value("lipwright_jobs_total") == before + 10)
        with client(address) as (connection, _):
            began = time.monotonic()
            received(connection, frames=25)
            took = time.monotonic() - began
        waiting.close()
    assert took < 8


@pytest.mark.usefixtures("slowly")
def test_uploads_under_way_count_as_films_that_wait(engine: Engine, sounds: Path) -> None:
    with serving(engine, Policy(limits=LIMITS)) as address, ExitStack() as uploading:
        head = f"POST /v1/avatars/tiny/render HTTP/1.1\r\nHost: {address}\r\nContent-Length: 9999\r\n\r\nRIFF".encode()
        for _ in range(LIMITS.jobs):
            uploading.enter_context(raw(address, head))
        url, content = f"http://{address}/v1/avatars/tiny/render", (sounds / "short.wav").read_bytes()

        def status() -> int:
            return httpx.post(url, content=content, headers={"Prefer": "respond-async"}).status_code

        until(lambda: status() == 503)
        uploading.close()
        until(lambda: status() == 202)


def test_a_film_that_was_answered_is_not_kept(url: str, sounds: Path) -> None:
    folders = set(Path(tempfile.gettempdir()).glob("lipwright-*/*.mp4"))
    answer = httpx.post(
        f"{url}/v1/avatars/tiny/render", content=(sounds / "short.wav").read_bytes(), timeout=3 * PATIENCE
    )
    assert answer.status_code == 200
    until(lambda: set(Path(tempfile.gettempdir()).glob("lipwright-*/*.mp4")) <= folders)


@pytest.mark.usefixtures("slowly")
def test_a_client_that_goes_away_cancels_its_film(url: str, engine: Engine, sounds: Path) -> None:
    before = engine.metrics.value("lipwright_jobs_total")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/avatars/tiny/render", content=(sounds / "short.wav").read_bytes(), timeout=0.4)
    assert engine.metrics.value("lipwright_jobs_total") == before + 1
    until(lambda: not engine._errands)
    answer = httpx.post(
        f"{url}/v1/avatars/tiny/render",
        content=(sounds / "short.wav").read_bytes(),
        headers={"Prefer": "respond-async"},
    )
    job = url + answer.headers["location"]
    until(lambda: httpx.get(job).json()["state"] == "done", 3 * PATIENCE)
    httpx.delete(job)


def test_live_sessions_do_not_notice_a_film(made: tuple[Engine, CostlyGenerator], url: str, sounds: Path) -> None:
    engine, generator = made
    render = partial(
        httpx.post, f"{url}/v1/avatars/tiny/render", content=(sounds / "short.wav").read_bytes(), timeout=60
    )

    def undrawn() -> int:
        with (
            engine.open("tiny", SessionOptions("pushed", lost_after=None), "test") as seat,
            ThreadPoolExecutor() as beside,
        ):
            seat.push(noise(4))
            film = beside.submit(render)
            frames = [frame for _ in range(60) if (frame := seat.take(5)) is not None]
            assert film.result().status_code == 200
        assert [frame.sequence for frame in frames] == list(range(60))
        return sum(frame.picture is None for frame in frames)

    generator.frame_ms = 8
    try:  # what other programs take from the machine only makes it worse, so the best of some counts
        assert any(undrawn() < 20 for _ in range(5))
    finally:
        generator.frame_ms = 0


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 422, "sound"),
        (b"this is no sound at all" * 50, 422, "sound"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", 422, "sound"),
        (bytes(2_000_001), 413, "too_large"),
    ],
)
def test_unusable_uploads_are_refused_in_one_line(url: str, content: bytes, status: int, word: str) -> None:
    answer = httpx.post(f"{url}/v1/avatars/tiny/render", content=content)
    assert (answer.status_code, code(answer)) == (status, word)
    message = answer.json()["error"]["message"]
    assert "\n" not in message
    assert "/tmp" not in message


def test_an_upload_without_a_length_is_counted_as_it_comes(url: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield bytes(100_000)

    with httpx.Client(timeout=20) as client:
        answer = client.post(f"{url}/v1/avatars/tiny/render", content=endless())
    assert (answer.status_code, code(answer)) == (413, "too_large")


def test_sound_that_is_too_long_is_refused(url: str, sounds: Path) -> None:
    answer = httpx.post(f"{url}/v1/avatars/tiny/render", content=(sounds / "endless.wav").read_bytes())
    assert (answer.status_code, code(answer)) == (413, "too_long")
    assert "30 s" in answer.json()["error"]["message"]


def test_an_upload_that_breaks_off_leaves_nothing(engine: Engine, url: str, tmp_path: Path, sounds: Path) -> None:
    address = url.removeprefix("http://")
    head = f"POST /v1/avatars/tiny/render HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100000\r\n\r\n".encode()
    before = engine.metrics.value("lipwright_jobs_total")
    raw(address, head + bytes(1000)).close()
    time.sleep(0.3)
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert engine.metrics.value("lipwright_jobs_total") == before


def test_the_example_makes_a_film(url: str, sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    command = [sys.executable, str(EXAMPLE), str(sounds / "short.wav"), str(out), "--server", url, "--avatar", "tiny"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert film(out.read_bytes(), tmp_path)[2] == 25
    assert "film.mp4" in done.stdout
