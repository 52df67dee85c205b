"""Who agreed is signed with the avatar; whoever speaks without that carries a mark that can be seen."""

from __future__ import annotations

import json
import wave
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from avatars import FACE, HEIGHT, WIDTH, Parts, make_avatar, tiny_generator
from command import Command, Outcome
from lipwright.avatar import Avatar, Consent, builtin_avatar, consent_standing, sign_consent
from lipwright.avatar.disclosure import Mark
from lipwright.credentials import Identity, verify
from lipwright.picture import BgrPicture
from lipwright.video import VideoReader

AGREED = Consent(shown="Ada Example", agreed_by="Ada Example", agreed_on=date(2026, 1, 31), purpose="lectures")


@pytest.fixture(autouse=True)
def no_key_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local keys are made in the test's own folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def avatar(tmp_path: Path) -> Avatar:
    return make_avatar(tmp_path, Parts(frames=8), consent=None)


def test_an_avatar_without_a_record_has_no_consent(avatar: Avatar) -> None:
    standing = consent_standing(avatar.manifest)
    assert (standing.state, standing.suffices) == ("none", False)


def test_the_presenter_is_nobody_and_needs_no_mark() -> None:
    standing = consent_standing(Avatar.open(builtin_avatar()).manifest)
    assert (standing.state, standing.suffices) == ("nobody", True)


def test_a_record_without_a_signature_does_not_suffice(tmp_path: Path) -> None:
    standing = consent_standing(make_avatar(tmp_path, Parts(frames=8), consent=AGREED).manifest)
    assert (standing.state, standing.suffices) == ("unsigned", False)


def test_a_signed_consent_holds_after_reading_it_back(avatar: Avatar) -> None:
    sign_consent(avatar, AGREED, Identity.local())
    opened = Avatar.open(avatar.path)
    assert opened.verify() == []
    standing = consent_standing(opened.manifest)
    assert (standing.state, standing.suffices) == ("signed", True)
    assert standing.sentence == (
        "Ada Example is shown; Ada Example agreed on 2026-01-31 to: lectures; "
        "signed by lipwright local, self-made, signer"
    )


@pytest.mark.parametrize(
    "change", [{"purpose": "advertising"}, {"shown": "Eve"}, {"agreed_on": date(2020, 1, 1)}, {"proof": "a letter"}]
)
def test_a_changed_record_breaks_the_signature(avatar: Avatar, change: dict[str, object]) -> None:
    signed = sign_consent(avatar, AGREED, Identity.local()).manifest
    assert signed.consent is not None
    other = Consent(**{**signed.consent.model_dump(), **change})
    standing = consent_standing(signed.changed(consent=other))
    assert (standing.state, standing.suffices) == ("broken", False)
    assert "was changed after it was signed" in standing.sentence


def test_a_consent_moved_to_another_avatar_breaks(avatar: Avatar, tmp_path: Path) -> None:
    consent = sign_consent(avatar, AGREED, Identity.local()).manifest.consent
    other = make_avatar(tmp_path, Parts(frames=9), name="other", consent=consent)
    assert "is not the file that was signed" in consent_standing(other.manifest).sentence
    renamed = avatar.manifest.changed(name="Eve", consent=consent)
    assert consent_standing(renamed).state == "broken"


def test_another_generator_breaks_the_signature_until_it_is_signed_again(avatar: Avatar, tmp_path: Path) -> None:
    signed = sign_consent(avatar, AGREED, Identity.local())
    other = signed.put_model("generator", tiny_generator(tmp_path / "g.onnx", gain=0.1), licence="x", origin="y")
    standing = consent_standing(other.manifest)
    assert standing.state == "broken"
    assert "checkpoint/model_best.onnx is not the file that was signed" in standing.sentence
    assert consent_standing(sign_consent(other, AGREED, Identity.local()).manifest).state == "signed"


def test_a_scribbled_signature_does_not_hold(avatar: Avatar) -> None:
    signed = sign_consent(avatar, AGREED, Identity.local()).manifest
    assert signed.consent is not None
    assert signed.consent.seal is not None
    for change in ({"signature": "%%"}, {"signature": "AAAA"}, {"certificate": "no certificate"}):
        seal = signed.consent.seal.model_copy(update=change)
        scribbled = Consent(**{**signed.consent.model_dump(), "seal": seal})
        assert consent_standing(signed.changed(consent=scribbled)).state == "broken"


# --- the mark -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (1080, 1920), (120, 90)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_mark_can_be_read_on_any_ground_and_stays_in_its_corner(size: tuple[int, int], level: int) -> None:
    width, height = size
    image = np.full((height, width, 3), level, np.uint8)
    mark = Mark(width, height)
    marked = mark.draw(BgrPicture(image)).bgr
    assert (image == level).all()
    rows, columns = np.nonzero((marked != image).any(axis=2))
    assert mark.rect.inside(height, width)
    assert rows.min() >= mark.rect.y1 > 0.45 * height
    assert columns.max() < mark.rect.x2
    assert rows.max() - rows.min() < max(60, height / 6)
    strip = marked[rows.min() :, :, 1].astype(int)
    assert np.ptp(strip) > 80


# --- the command ----------------------------------------------------------------------------------------------------


CONSENT = ("--shown", "Ada Example", "--by", "Ada Example", "--for", "lectures", "--on", "2026-01-31")


def test_consent_is_recorded_signed_and_shown(lipwright: Command, avatar: Avatar) -> None:
    made = lipwright("consent", avatar.path, *CONSENT)
    assert made.code == 0, made.err
    sentence = (
        "Ada Example is shown; Ada Example agreed on 2026-01-31 to: lectures; signed by lipwright local, self-made"
    )
    assert sentence in made.out
    assert f"consent: {sentence}" in lipwright("info", avatar.path).out
    assert json.loads(lipwright("info", avatar.path, "--json").out)["consent"]["state"] == "signed"


def test_what_is_left_out_stays_as_it_was(lipwright: Command, avatar: Avatar) -> None:
    lipwright("consent", avatar.path, *CONSENT)
    assert lipwright("consent", avatar.path, "--for", "weddings").code == 0
    consent = Avatar.open(avatar.path).manifest.consent
    assert consent is not None
    assert (consent.shown, consent.purpose, consent.agreed_on) == ("Ada Example", "weddings", date(2026, 1, 31))


def test_what_must_be_said_is_asked_for(lipwright: Command, avatar: Avatar) -> None:
    outcome = lipwright("consent", avatar.path, "--shown", "Ada")
    assert outcome.code == 1
    assert "say --by, --for" in outcome.err
    assert Avatar.open(avatar.path).manifest.consent is None


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes((8000 * np.sin(np.arange(3 * 640) / 9)).astype("<i2").tobytes())
    return path


def lower_edge(film: Path) -> npt.NDArray[np.float64]:
    """The mean picture's lowest tenth, below the face."""
    images = list(VideoReader(film))
    edge = np.asarray(np.mean(images, axis=0)[-HEIGHT // 10 :], np.float64)
    assert edge.shape == (HEIGHT // 10, WIDTH, 3)
    assert HEIGHT // 10 < (HEIGHT - FACE) // 2 - 8
    return edge


def test_a_film_without_consent_carries_the_mark_and_others_do_not(
    lipwright: Command, avatar: Avatar, speech: Path, tmp_path: Path
) -> None:
    def render(name: str, *more: str) -> Outcome:
        options = ("--avatar", avatar.path, "--runtime", "onnxruntime", "-o", tmp_path / name)
        outcome = lipwright("render", speech, *options, *more)
        assert outcome.code == 0, outcome.err
        return outcome

    marked = render("marked.mp4")
    assert "no consent is on file: the film carries a visible mark" in marked.err
    stated = render("stated.mp4", "--i-have-consent")
    assert "mark" not in stated.err
    lipwright("consent", avatar.path, *CONSENT)
    agreed = render("agreed.mp4")
    assert "mark" not in agreed.err
    clean = lower_edge(tmp_path / "agreed.mp4")
    assert np.abs(lower_edge(tmp_path / "stated.mp4") - clean).max() < 3
    assert np.abs(lower_edge(tmp_path / "marked.mp4") - clean).max() > 60
    said = [verify(tmp_path / name).consent for name in ("marked.mp4", "stated.mp4", "agreed.mp4")]
    assert said[0] == "no consent is on file"
    assert said[1] == "no consent is on file; who made this film says that the person shown agreed"
    assert str(said[2]).startswith("Ada Example is shown")
