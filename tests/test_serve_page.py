"""The page in a real browser: Debian's chromium and chromium-driver, with a sound file for a microphone."""

from __future__ import annotations

import base64
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from lipwright.avatar import Avatar, builtin_avatar, builtin_sound
from lipwright.check.lips import lip_gaps
from lipwright.contract import FPS, FloatArray, UInt8Array
from lipwright.render import Networks, Painter, Walk
from lipwright.render.voice import Voice
from lipwright.serve.engine import Engine
from lipwright.serve.faces import Face
from lipwright.serve.safety import Limits, Policy
from lipwright.serve.session import SessionOptions
from lipwright.serve.webrtc import attach
from live import costly_face, running, serving, small_avatar, until
from media import speech_like, write_sound
from tools.presenter import lips

pytestmark = pytest.mark.alone

DEMO = builtin_sound()
TOKEN = "a secret that is long"
#: A name that is not localhost: browsers give such a page of plain http neither microphone nor WebCodecs.
ELSEWHERE = "lipwright.test"
#: Pictures of a speaking mouth that are enough to correlate, how many are asked for, and for how long at most.
ENOUGH, WANTED, MOST_SECONDS = 40, 120, 300.0
#: A picture is recorded with so many pixels around all places of the face.
MARGIN = 120

#: Records, before any script of the page runs, what the page hears (per sequence) and what it shows of ``box``.
RECORDER = """
const record = window.record = {box: null, pictures: new Map(), sounds: new Map()};
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({data}) => {
      if (typeof data === "string") return;
      const view = new DataView(data);
      if (view.getUint8(1) === 1) record.sounds.set(view.getUint32(8), new Uint8Array(data, 24));
    });
  }
};
let last;
function look() {
  requestAnimationFrame(look);
  const canvas = document.getElementById("picture");
  if (!record.box || !canvas || canvas.dataset.sequence === last) return;
  last = canvas.dataset.sequence;
  record.pictures.set(Number(last), createImageBitmap(canvas, ...record.box));
}
look();
"""
SPOKEN = "return [...record.pictures.keys()].filter(n => record.sounds.get(n)?.some(v => v)).length"
SOUNDS = """
const done = arguments[0];
const all = [...record.sounds].map(([n, bytes]) => [n, btoa(String.fromCharCode(...bytes))]);
done(all);
"""
PICTURES = """
const done = arguments[0];
(async () => {
  const found = [];
  for (const [n, promised] of record.pictures) {
    const image = await promised;
    const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
    canvas.getContext("2d").drawImage(image, 0, 0);
    found.push([n, canvas.toDataURL("image/jpeg", 0.95).split(",")[1]]);
  }
  done(found);
})();
"""
#: A page that speaks, sees and hears over one connection; answers when all of that has happened.
WHIP = """
const done = arguments[0];
(async () => {
  const microphone = await navigator.mediaDevices.getUserMedia({audio: true});
  const connection = new RTCPeerConnection();
  const video = Object.assign(document.createElement("video"), {muted: true, autoplay: true});
  video.srcObject = new MediaStream();
  connection.ontrack = ({track}) => video.srcObject.addTrack(track);
  connection.addTransceiver(microphone.getAudioTracks()[0], {direction: "sendrecv"});
  connection.addTransceiver("video", {direction: "recvonly"});
  const commands = connection.createDataChannel("lipwright");
  const reply = new Promise((resolve) => { commands.onmessage = ({data}) => resolve(JSON.parse(data).type); });
  commands.onopen = () => commands.send(JSON.stringify({type: "interrupt"}));
  await connection.setLocalDescription();
  await new Promise((resolve) => {
    connection.onicegatheringstatechange = () => connection.iceGatheringState === "complete" && resolve();
  });
  const answer = await fetch("/v1/avatars/ada/whip", {
    method: "POST", headers: {"Content-Type": "application/sdp"}, body: connection.localDescription.sdp,
  });
  await connection.setRemoteDescription({type: "answer", sdp: await answer.text()});
  const hears = async () => {
    const reports = [...(await connection.getStats()).values()];
    return reports.some((r) => r.type === "inbound-rtp" && r.kind === "audio" && r.packetsReceived > 25);
  };
  while (!video.videoWidth || !await hears()) await new Promise((resolve) => setTimeout(resolve, 100));
  done({status: answer.status, width: video.videoWidth, height: video.videoHeight, hears: true, reply: await reply});
})();
"""


@contextmanager
def browser(microphone: Path | None = None) -> Iterator[webdriver.Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium or chromedriver is missing: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,800"),
        *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
        *([f"--use-file-for-fake-audio-capture={microphone}"] if microphone else []),
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_script_timeout(120)
    try:
        yield chrome
    finally:
        chrome.quit()


class Page:
    """The page as somebody uses it."""

    def __init__(self, chrome: webdriver.Chrome, url: str) -> None:
        self.chrome = chrome
        self.chrome.get_log("browser")  # what an earlier page said
        chrome.get(url)

    def __getitem__(self, name: str) -> WebElement:
        return self.chrome.find_element(By.ID, name)

    def run(self, script: str) -> Any:
        return self.chrome.execute_script(script)

    @property
    def sequence(self) -> int:
        """The frame on the screen; -1 before the first."""
        return int(self.run("return document.getElementById('picture').dataset.sequence ?? -1"))

    @property
    def presence(self) -> str:
        return self["presence-text"].text

    def ready(self) -> Page:
        until(lambda: self["choose"].is_enabled())
        return self

    def play(self, file: Path) -> None:
        """Choose a file; the click stands for those that open the system's dialogue, which no test can use."""
        self.chrome.find_element(By.TAG_NAME, "h1").click()
        self["file"].send_keys(str(file))

    def complaints(self) -> list[str]:
        """What the browser had to say: errors of scripts, files that were missing, broken security policy."""
        return [entry["message"] for entry in self.chrome.get_log("browser") if entry["level"] == "SEVERE"]


# --- a small avatar: what the page does -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("avatars")
    faces = [costly_face(small_avatar(folder / name, name))[0] for name in ("ada", "bert")]
    with running(*faces, sessions=1, lookahead=0) as started:
        yield started


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound(tmp_path_factory.mktemp("sound") / "words.wav", speech_like(4.0, 48_000), 48_000)


@pytest.fixture(scope="module")
def chrome(sound: Path) -> Iterator[webdriver.Chrome]:
    with browser(sound) as opened:
        yield opened


@pytest.fixture
def page(engine: Engine, chrome: webdriver.Chrome) -> Iterator[Page]:
    with serving(engine, Policy(limits=Limits(requests_per_second=1000))) as address:
        opened = Page(chrome, f"http://{address}/").ready()
        yield opened
        assert opened.complaints() == []
        chrome.get("about:blank")
        until(lambda: engine.active == 0)


def test_the_microphone_is_heard_until_it_is_switched_off(page: Page, engine: Engine) -> None:
    page["microphone"].click()
    until(lambda: page.presence == "Listening to you")
    until(lambda: page.sequence > 10)
    assert page["microphone"].accessible_name == "Stop the microphone"
    assert page["stage"].get_attribute("data-state") == "on"
    assert not page["sound"].is_selected(), "nobody shall hear himself late"
    until(lambda: page["latency"].text.endswith("ms"))
    until(lambda: float(page.run("return getComputedStyle(level).getPropertyValue('--level') || 0")) > 0)
    assert page["fps"].text.endswith("fps")
    assert page["dropped"].text.isdigit()
    page["microphone"].click()
    until(lambda: engine.active == 0)
    assert page.presence == "Not connected"
    assert page["microphone"].accessible_name == "Speak"
    assert page["latency"].text == "–", "figures of a session that is over"


@pytest.mark.parametrize(
    ("name", "words"),
    [("NotAllowedError", "not allowed"), ("NotFoundError", "No microphone"), ("NotReadableError", "Another program")],
)
def test_a_microphone_that_is_not_given_is_told_in_words(page: Page, engine: Engine, name: str, words: str) -> None:
    page.run(f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}'))")
    page["microphone"].click()
    until(lambda: page["message"].is_displayed())
    assert words in page["message"].text
    assert page["microphone"].accessible_name == "Speak"
    assert engine.active == 0


def test_a_microphone_that_is_pulled_out_is_told_in_words(page: Page, engine: Engine) -> None:
    page.run("""
        const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wish) => (window.microphone = await given(wish));
    """)
    page["microphone"].click()
    until(lambda: page.presence == "Listening to you")
    page.run("microphone.getTracks()[0].dispatchEvent(new Event('ended'))")
    until(lambda: page["message"].is_displayed())
    assert "The microphone is gone" in page["message"].text
    until(lambda: engine.active == 0)


def test_a_microphone_that_goes_while_the_session_begins_is_told_in_words(page: Page, engine: Engine) -> None:
    page.run("""
        const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wish) => {
          const stream = await given(wish);
          stream.getTracks()[0].stop();
          return stream;
        };
    """)
    page["microphone"].click()
    until(lambda: page["message"].is_displayed())
    assert "The microphone is gone" in page["message"].text
    until(lambda: engine.active == 0)


def test_the_poster_stays_until_there_is_a_picture(page: Page, sound: Path) -> None:
    page.run("""
        window.states = [];
        const stage = document.getElementById("stage"), canvas = document.getElementById("picture");
        new MutationObserver(() => states.push([stage.dataset.state, canvas.dataset.sequence ?? null]))
          .observe(stage, {attributes: true});
    """)
    page.play(sound)
    until(lambda: page.sequence > 3)
    states = page.run("return states")
    assert [state for state, _ in states if state == "on"] == ["on"]
    assert all(sequence is not None for state, sequence in states if state == "on")


def test_a_sound_file_is_spoken_to_its_end(page: Page, sound: Path) -> None:
    page.play(sound)
    until(lambda: page.presence == "Speaking")
    assert page["progress-name"].text == "words.wav"
    assert page["sound"].is_selected()
    until(lambda: page.presence == "Ready")
    assert page["progress-time"].text == "0:04 / 0:04"
    assert page["said"].get_attribute("textContent") == "words.wav was spoken."
    page.play(sound)
    until(lambda: page.presence == "Speaking", 5)


def test_a_file_can_be_dropped_on_the_page(page: Page) -> None:
    page.run("""
        const bytes = new DataView(new ArrayBuffer(44 + 96000));
        [..."RIFF"].forEach((c, i) => bytes.setUint8(i, c.charCodeAt()));
        bytes.setUint32(4, 36 + 96000, true);
        [..."WAVEfmt "].forEach((c, i) => bytes.setUint8(8 + i, c.charCodeAt()));
        [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, 48000, 4], [28, 96000, 4], [32, 2, 2], [34, 16, 2]].forEach(
          ([at, value, size]) => size === 4 ? bytes.setUint32(at, value, true) : bytes.setUint16(at, value, true));
        [..."data"].forEach((c, i) => bytes.setUint8(36 + i, c.charCodeAt()));
        bytes.setUint32(40, 96000, true);
        for (let i = 44; i < bytes.byteLength; i += 2) bytes.setInt16(i, 8000 * Math.sin(i / 60), true);
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes.buffer], "dropped.wav"));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer, cancelable: true}));
    """)
    until(lambda: page["progress-name"].text == "dropped.wav")
    until(lambda: page.sequence > 3)
    assert page["silent"].is_displayed(), "browsers want a click before a page may sound"
    page.chrome.find_element(By.TAG_NAME, "h1").click()
    until(lambda: not page["silent"].is_displayed())
    before = page.sequence
    until(lambda: page.sequence > before + 5)


def test_interrupt_by_key(page: Page, sound: Path) -> None:
    page.play(sound)
    until(lambda: page.sequence > 5)
    page.chrome.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(lambda: page["said"].get_attribute("textContent") == "Interrupted.", 2)
    before = page.sequence
    until(lambda: page.sequence > before + 5)
    assert page.presence == "Ready", "it lives on and is silent"
    assert not page["progress"].is_displayed()


def test_a_file_without_sound_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("no sound at all")
    page.play(file)
    until(lambda: page["message"].is_displayed())
    assert "letter.txt holds no sound" in page["message"].text
    assert page["choose"].is_enabled()


def test_a_full_server_is_told_in_words(page: Page, engine: Engine, sound: Path) -> None:
    with engine.open("ada", SessionOptions(lost_after=None), "test"):
        page.play(sound)
        until(lambda: page["message"].is_displayed())
    assert "the server is full" in page["message"].text
    page.chrome.get_log("browser")


def test_everything_is_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    reached = []
    for _ in range(12):
        page.chrome.switch_to.active_element.send_keys(Keys.TAB)
        active = page.chrome.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("name") or active.tag_name)
        assert active.tag_name == "body" or active.accessible_name, reached
    for name in ("avatar", "microphone", "choose", "sound"):
        assert name in reached
    assert "file" not in reached, "the button stands for it"
    for picture in page.chrome.find_elements(By.CSS_SELECTOR, "canvas, [role=img]"):
        assert picture.accessible_name


def test_another_avatar(page: Page) -> None:
    choices = page.chrome.find_elements(By.CSS_SELECTOR, ".avatar")
    assert [choice.text for choice in choices] == ["ada", "bert"]
    choices[1].click()
    page["microphone"].click()
    until(lambda: page.sequence > 3)
    assert page["picture"].accessible_name == "The avatar bert"


def test_it_fits_a_phone(page: Page) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.run("return document.documentElement.scrollWidth") <= 360
        for name in ("microphone", "choose", "interrupt"):
            assert page[name].size["height"] >= 44, "large enough for a thumb"
    finally:
        page.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_plain_http_from_elsewhere_files_still_work(engine: Engine, chrome: webdriver.Chrome, sound: Path) -> None:
    with serving(engine, Policy(hosts=(ELSEWHERE,))) as address:
        page = Page(chrome, f"http://{ELSEWHERE}:{address.split(':')[1]}/").ready()
        assert page.run("return [isSecureContext, 'VideoDecoder' in window]") == [False, False]
        assert not page["microphone"].is_enabled()
        assert "https" in page["microphone-note"].text
        page.play(sound)
        until(lambda: page.sequence > 5)
        assert page.complaints() == []
        chrome.get("about:blank")
        until(lambda: engine.active == 0)


def test_the_token_is_asked_for(engine: Engine, chrome: webdriver.Chrome, sound: Path) -> None:
    with serving(engine, Policy(token=TOKEN)) as address:
        page = Page(chrome, f"http://{address}/")
        until(lambda: page["token"].is_displayed())
        page["token"].send_keys("wrong", Keys.ENTER)
        until(lambda: page["message"].is_displayed())
        page["token"].clear()
        page["token"].send_keys(TOKEN, Keys.ENTER)
        page.ready()
        assert not page["token"].is_displayed()
        assert not page["message"].is_displayed()
        page.play(sound)
        until(lambda: page.sequence > 5)
        chrome.get("about:blank")
        until(lambda: engine.active == 0)
        chrome.get_log("browser")


def test_a_server_that_starts_anew_goes_on_listening(engine: Engine, chrome: webdriver.Chrome) -> None:
    with serving(engine) as address:
        page = Page(chrome, f"http://{address}/").ready()
        page["microphone"].click()
        until(lambda: page.sequence > 3)
    until(lambda: page.presence == "Connection lost. Trying again …")
    assert page["microphone"].accessible_name == "Stop the microphone"
    assert page["said"].get_attribute("textContent") == "The connection was lost. Trying again."
    with serving(engine, port=int(address.split(":")[1])):
        until(lambda: page.presence == "Listening to you")
        assert not page["message"].is_displayed()
        before = page.sequence
        until(lambda: page.sequence != before)
    until(lambda: page.presence == "Connection lost. Trying again …")
    page["microphone"].click()
    until(lambda: page.presence == "Not connected")
    chrome.get("about:blank")
    chrome.get_log("browser")
    until(lambda: engine.active == 0)


def test_a_connection_lost_while_a_file_is_read_switches_the_microphone_off(
    engine: Engine, chrome: webdriver.Chrome, sound: Path
) -> None:
    with serving(engine) as address:
        page = Page(chrome, f"http://{address}/").ready()
        page.run("""
            const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wish) => (window.microphone = await given(wish));
            AudioContext.prototype.decodeAudioData = () => new Promise(() => {});
        """)
        page["microphone"].click()
        until(lambda: page.presence == "Listening to you")
        page["file"].send_keys(str(sound))
        until(lambda: page.presence == "Reading the file …")
    until(lambda: page["message"].is_displayed())
    assert page.run("return microphone.getTracks()[0].readyState") == "ended"
    chrome.get("about:blank")
    chrome.get_log("browser")
    until(lambda: engine.active == 0)


def test_the_interface_for_programs_loads_nothing_from_elsewhere(engine: Engine, chrome: webdriver.Chrome) -> None:
    with serving(engine, Policy(token=TOKEN)) as address:
        page = Page(chrome, f"http://{address}/docs")
        until(lambda: "/v1/avatars/{name}/render" in page["operations"].text)
        text = page["operations"].text
        assert "POST" in text
        assert "audio/*" in text
        hosts = "return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).host)"
        assert set(page.run(hosts)) == {address}
        assert page.complaints() == []
        chrome.get("about:blank")


def test_a_browser_speaks_over_webrtc(engine: Engine, chrome: webdriver.Chrome) -> None:
    """One sendrecv offer to the WHIP door, as anybody's page may send it; the server is bound to loopback."""
    with serving(engine, attachments=[attach]) as address:
        chrome.get(f"http://{address}/healthz")
        seen = chrome.execute_async_script(WHIP)
        assert seen == {"status": 201, "width": 160, "height": 144, "hears": True, "reply": "interrupted"}
        chrome.get("about:blank")
        until(lambda: engine.active == 0)


# --- the presenter: the mouth moves with the sound ------------------------------------------------------------------


def test_the_mouth_moves_with_the_sound(tmp_path: Path) -> None:
    """What a microphone hears is spoken: the lips on the canvas against those of the same sound rendered offline."""
    avatar = Avatar.open(builtin_avatar())
    networks = Networks.open(avatar)
    words = lips.read_mono(DEMO, 6)
    file = write_sound(tmp_path / "words.wav", words, 16_000)
    box = face_box(avatar)
    with running(Face(avatar, networks), sessions=1) as engine, serving(engine) as address, browser(file) as chrome:
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": RECORDER})
        page = Page(chrome, f"http://{address}/").ready()
        page.run(f"record.box = {list(box)}")
        page["microphone"].click()
        until(lambda: engine.active == 1)
        (seat,) = engine._seats.values()
        watch(page)
        sounds = {n: base64.b64decode(data) for n, data in chrome.execute_async_script(SOUNDS)}
        pictures = {n: picture(data) for n, data in chrome.execute_async_script(PICTURES)}
        assert page.complaints() == []
    heard, rate = joined(sounds), frame_bytes(sounds) // 2 * FPS
    spoken = sorted(n for n in pictures if n in sounds and any(sounds[n]))
    assert len(spoken) >= ENOUGH
    assert envelope_match(heard, rate, words) > 0.8, "the microphone's sound came back"
    shown = lip_gaps(pictures[n] for n in spoken)
    truth = lip_gaps(offline(avatar, networks, (heard, rate), seat.first_tick, spoken, box))
    known = np.isfinite(shown) & np.isfinite(truth)
    r = float(np.corrcoef(shown[known], truth[known])[0, 1])
    logging.getLogger(__name__).info("%d pictures, lip gap r %.3f", known.sum(), r)
    assert known.sum() >= ENOUGH
    assert r >= 0.9, f"lip gap r {r:.3f} over {known.sum()} pictures"


def face_box(avatar: Avatar) -> tuple[int, int, int, int]:
    """x, y, width, height of a box around all places of the face."""
    x1, y1 = np.maximum(avatar.rects[:, :2].min(axis=0) - MARGIN, 0)
    x2, y2 = np.minimum(avatar.rects[:, 2:].max(axis=0) + MARGIN, (1280, 720))
    return int(x1), int(y1), int(x2 - x1), int(y2 - y1)


def watch(page: Page) -> None:
    """Until enough was seen; on a busy machine many frames have no picture of their own."""
    end = time.monotonic() + MOST_SECONDS
    while page.run(SPOKEN) < WANTED and time.monotonic() < end:
        time.sleep(0.2)


def picture(data: str) -> UInt8Array:
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)


def frame_bytes(sounds: dict[int, bytes]) -> int:
    (size,) = {len(data) for data in sounds.values()}
    return size


def joined(sounds: dict[int, bytes]) -> FloatArray:
    """[n, 1] all that was heard, at the rate of the page's audio device; frames that were lost are silent."""
    size = frame_bytes(sounds)
    data = b"".join(sounds.get(n, bytes(size)) for n in range(max(sounds) + 1))
    return np.asarray(np.frombuffer(data, "<i2")[:, None] / 32768, np.float32)


def offline(
    avatar: Avatar, networks: Networks, sound: tuple[FloatArray, int], first_tick: int, wanted: list[int], box: Any
) -> Iterator[UInt8Array]:
    """The pictures ``wanted`` of the film in which ``avatar`` says ``sound`` (and its rate), cut to ``box``."""
    manifest = avatar.manifest
    samples, rate = sound
    voice = Voice(rate, 1, networks, manifest.encoder.alignment.to_contract(), manifest.window.padding, 7)
    windows = {moment.index: moment.window for moment in (*voice.push(samples), *voice.flush())}
    walk = Walk.of(avatar)
    painter = Painter(avatar, networks, "soft")
    x, y, width, height = box
    for n in wanted:
        still = painter.still(walk(first_tick + n))
        (drawn,) = painter.draw([still], windows[n][None])
        yield painter.finish(still, drawn).bgr[y : y + height, x : x + width]
    painter.close()


def envelope_match(heard: FloatArray, rate: int, words: FloatArray) -> float:
    """Best r of the loudness of any two seconds of ``heard`` with any of ``words`` (16 kHz).

    On a busy machine a microphone's sound has holes; the browser changes its level and removes noise.
    """
    loud = [
        np.sqrt((s[: len(s) // n * n].reshape(-1, n) ** 2).mean(axis=1))
        for s, n in ((heard, rate // FPS), (words, 640))
    ]
    parts, whole = (np.lib.stride_tricks.sliding_window_view(values, 2 * FPS) for values in loud)
    parts, whole = (_standard(stretches[stretches.std(axis=1) > 0]) for stretches in (parts, whole))
    return float((parts @ whole.T).max())


def _standard(rows: FloatArray) -> FloatArray:
    """Each row with mean 0 and length 1, so that a product of two is their r."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), np.float32)
