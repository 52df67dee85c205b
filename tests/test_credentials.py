"""A film says what it is and who made it; one changed byte shows, and so does a missing signature."""

from __future__ import annotations

import json
import logging
import shutil
import stat
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from avatars import Parts, face_images, make_avatar
from command import Command, Outcome
from lipwright import Renderer, __version__
from lipwright.avatar import Avatar, builtin_sound
from lipwright.credentials import SYNTHETIC, Claims, Identity, seal, signature_holds, verify
from lipwright.credentials.identity import CERTIFICATE_NAME, KEY_NAME, make_local
from lipwright.errors import CredentialsError, MediaError
from lipwright.video import PngWriter, Seal, VideoReader, VideoWriter
from tools.signing_cost import AIM, measure, table

RATE = 16_000
SIDE = 64
CLAIMS = Claims(
    "tiny", {"generator": "00" * 32, "audio_encoder": "11" * 32, "template": "22" * 32}, "nobody: a drawing"
)
PEM = serialization.Encoding.PEM


@pytest.fixture(autouse=True)
def no_key_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local keys are made in the test's own folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "lipwright" / "signing"


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    folder = tmp_path_factory.mktemp("key") / "signing"
    make_local(folder)
    return Identity.open(folder / KEY_NAME, folder / CERTIFICATE_NAME)


def write_film(path: Path, seal_film: Seal | None, frames: int = 10) -> Path:
    rng = np.random.default_rng(5)
    with VideoWriter(path, SIDE, SIDE, RATE, 1, comment=SYNTHETIC, seal=seal_film) as film:
        for _ in range(frames):
            film.write(
                rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8), rng.random((640, 1), np.float32) / np.float32(4)
            )
    return path


@pytest.fixture
def film(tmp_path: Path, identity: Identity) -> Path:
    return write_film(tmp_path / "film.mp4", partial(seal, claims=CLAIMS, identity=identity))


# --- films ----------------------------------------------------------------------------------------------------------


def test_a_film_says_who_made_it_of_what(film: Path, identity: Identity) -> None:
    verdict = verify(film)
    assert (verdict.judgement, verdict.reasons) == ("valid", [])
    assert verdict.synthetic
    assert verdict.signer == identity.name == "lipwright local, self-made, signer"
    assert verdict.vouched_by is None
    assert verdict.made_with == f"lipwright {__version__}"
    assert datetime.now(UTC) - datetime.fromisoformat(str(verdict.made_at)) < timedelta(minutes=5)
    assert (verdict.avatar, verdict.sha256, verdict.consent) == ("tiny", dict(CLAIMS.files), CLAIMS.consent)
    assert verdict.comment == SYNTHETIC


def test_signing_changes_neither_picture_nor_sound(tmp_path: Path, film: Path) -> None:
    plain = write_film(tmp_path / "plain.mp4", None)
    for ours, theirs in zip(VideoReader(film), VideoReader(plain), strict=True):
        assert np.array_equal(ours, theirs)
    assert packets(film) == packets(plain)


def packets(path: Path) -> list[tuple[str, int | None, int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(p.stream.type, p.pts, p.duration, bytes(p)) for p in container.demux() if p.size]


def offset_of(film: Path, kind: str) -> int:
    """Where in the file the middle of the film's ``kind`` lies: a byte inside a packet of picture or sound."""
    with av.open(str(film)) as container:
        found = [p for p in container.demux() if p.stream.type == kind and p.size]
        middle = found[len(found) // 2]
        assert middle.pos is not None
        return middle.pos + middle.size // 2


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_flipped_byte_of_picture_or_sound_fails(film: Path, kind: str) -> None:
    content = bytearray(film.read_bytes())
    content[offset_of(film, kind)] ^= 1
    film.write_bytes(content)
    verdict = verify(film)
    assert verdict.judgement == "changed"
    assert verdict.reasons == ["picture or sound were changed after it was signed"]


@pytest.mark.parametrize("said", [b"lipwright.film", b"trainedAlgorithmicMedia", b"nobody: a drawing"])
def test_a_changed_claim_fails(film: Path, said: bytes) -> None:
    content = film.read_bytes()
    assert said in content
    film.write_bytes(content.replace(said, said[:-1] + b"x"))
    assert verify(film).judgement == "changed"


def test_a_film_cut_short_or_made_longer_fails(film: Path) -> None:
    content = film.read_bytes()
    for other in (content[:-100], content + bytes(8)):
        film.write_bytes(other)
        assert verify(film).judgement == "changed"


def test_a_film_encoded_again_has_no_credentials_and_says_so(film: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.mp4"
    with VideoWriter(again, SIDE, SIDE, RATE, 1) as writer:
        for image in VideoReader(film):
            writer.write(image, np.zeros((640, 1), np.float32))
    verdict = verify(again)
    assert verdict.judgement == "none"
    assert "never signed, or was encoded again" in verdict.reasons[0]


def test_credentials_moved_to_another_film_fail(film: Path, tmp_path: Path, identity: Identity) -> None:
    """The box with the credentials, cut out of one film and put into another of the same length."""
    other = write_film(tmp_path / "other.mp4", partial(seal, claims=CLAIMS, identity=identity), frames=12)
    content, theirs = film.read_bytes(), other.read_bytes()
    moved = content.replace(box(content, b"uuid"), box(theirs, b"uuid"))
    assert moved != content
    film.write_bytes(moved)
    assert verify(film).judgement == "changed"


def box(content: bytes, kind: bytes) -> bytes:
    start = content.index(kind) - 4
    return content[start : start + int.from_bytes(content[start : start + 4], "big")]


def test_what_is_no_film_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"nothing\.mp4: there is no such file"):
        verify(tmp_path / "nothing.mp4")
    (tmp_path / "text.mp4").write_text("no film at all")
    with pytest.raises(MediaError, match=r"text\.mp4 cannot be opened"):
        verify(tmp_path / "text.mp4")
    with pytest.raises(MediaError, match=r"film\.mkv is of a kind that carries no credentials"):
        verify(write_matroska(tmp_path / "film.mkv"))


def write_matroska(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for image in face_images(2, SIDE, SIDE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


# --- a film appears when it is signed -------------------------------------------------------------------------------


def test_no_film_appears_when_signing_fails(tmp_path: Path) -> None:
    def refuse(part: Path) -> None:
        assert part.is_file()
        assert not (tmp_path / "film.mp4").exists()
        raise CredentialsError("the key is gone")

    with pytest.raises(CredentialsError, match="the key is gone"):
        write_film(tmp_path / "film.mp4", refuse)
    assert not list(tmp_path.iterdir())


def test_a_key_that_fails_at_the_end_leaves_the_film_as_it_was(film: Path, identity: Identity) -> None:
    before = film.read_bytes()
    broken = Identity(identity.key, b"no certificate", identity.algorithm, identity.where)
    with pytest.raises(CredentialsError, match=r"film\.mp4 cannot be signed: .*--no-credentials"):
        seal(film, CLAIMS, broken)
    assert film.read_bytes() == before
    assert [path.name for path in film.parent.iterdir()] == ["film.mp4"]


# --- folders of pictures --------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path, identity: Identity) -> Path:
    folder = tmp_path / "frames"
    with PngWriter(folder, RATE, 1, seal=partial(seal, claims=CLAIMS, identity=identity)) as writer:
        for image in face_images(4, 64, 64):
            writer.write(image, np.full((640, 1), 0.25, np.float32))
    return folder


def test_a_folder_of_pictures_is_signed_in_its_sound(pictures: Path) -> None:
    names = ["000000.png", "000001.png", "000002.png", "000003.png", "sound.wav"]
    assert sorted(path.name for path in pictures.iterdir()) == names
    verdict = verify(pictures)
    assert (verdict.judgement, verdict.avatar) == ("valid", "tiny")
    with wave.open(str(pictures / "sound.wav")) as sound:
        assert np.all(np.frombuffer(sound.readframes(9999), "<i2") == 8192)
        assert sound.getnframes() == 4 * 640


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-60] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda folder: _flip(folder / "000002.png"),
            "not the signed ones, the first is 000002.png",
        ),
        (lambda folder: (folder / "000001.png").unlink(), "1 of its pictures are not the signed ones"),
        (lambda folder: shutil.copy(folder / "000001.png", folder / "000009.png"), "the first is 000009.png"),
    ],
)
def test_another_picture_in_a_signed_folder_fails(pictures: Path, change: Callable[[Path], None], reason: str) -> None:
    change(pictures)
    verdict = verify(pictures)
    assert verdict.judgement == "changed"
    assert reason in verdict.reasons[0]


def test_changed_sound_of_a_signed_folder_fails(pictures: Path) -> None:
    content = bytearray((pictures / "sound.wav").read_bytes())
    content[content.index(b"data") + 100] ^= 1
    (pictures / "sound.wav").write_bytes(content)
    assert verify(pictures).judgement == "changed"


# --- keys -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    key: Path
    certificate: Path
    root: Path


#: What may be wrong with a certificate, by name.
Flaw = str


def make_pair(folder: Path, key: Any, *, flaw: Flaw = "") -> Pair:
    """PEM files of a signer called Example and his issuer, as an authority would give them, with one flaw or none."""
    folder.mkdir()
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = certificate("Example Root", root_key.public_key(), root_key, "Example Root", is_root=True, flaw="")
    is_root = flaw == "an authority"
    own = certificate("Example", key.public_key(), root_key, "Example Root", is_root=is_root, flaw=flaw)
    pair = Pair(folder / "key.pem", folder / "certificate.pem", folder / "root.pem")
    pair.key.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    pair.certificate.write_bytes(own.public_bytes(PEM))
    pair.root.write_bytes(root.public_bytes(PEM))
    return pair


def named(name: str) -> x509.Name:
    kinds = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    return x509.Name([x509.NameAttribute(kind, name) for kind in kinds])


def certificate(name: str, public: Any, issuer_key: Any, issuer: str, *, is_root: bool, flaw: Flaw) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=-1 if flaw == "expired" else 30))
        .add_extension(x509.BasicConstraints(is_root, None), critical=True)
        .add_extension(usage(signs=not is_root), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_root and flaw != "no purpose":
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def usage(*, signs: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    none = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=signs, key_cert_sign=not signs, crl_sign=not signs, **none)


KINDS: dict[str, Callable[[], Any]] = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("algorithm", KINDS)
def test_keys_of_every_kind_sign_films_and_consents(tmp_path: Path, algorithm: str) -> None:
    pair = make_pair(tmp_path / "signer", KINDS[algorithm]())
    identity = Identity.open(pair.key, pair.certificate)
    assert (identity.algorithm, identity.name) == (algorithm, "Example, Example")
    film = write_film(tmp_path / "film.mp4", partial(seal, claims=CLAIMS, identity=identity))
    assert verify(film).judgement == "valid"
    signature = identity.sign(b"words")
    assert signature_holds(identity.certificates, signature, b"words")
    assert not signature_holds(identity.certificates, signature, b"other words")


def test_trust_is_for_those_whose_certificate_one_has(tmp_path: Path, film: Path) -> None:
    ours, strangers = (make_pair(tmp_path / name, KINDS["es256"]()) for name in ("ours", "strangers"))
    seal(film, CLAIMS, Identity.open(ours.key, ours.certificate))
    known = verify(film, trust=ours.root)
    assert (known.judgement, known.vouched_by) == ("valid", str(ours.root))
    unknown = verify(film, trust=strangers.root)
    assert (unknown.judgement, unknown.vouched_by) == ("untrusted", None)
    assert "stands behind its signer" in unknown.reasons[0]
    assert verify(film).judgement == "valid"


@pytest.mark.parametrize("flaw", ["no purpose", "an authority"])
def test_a_certificate_that_cannot_sign_films_is_refused_before_the_render(tmp_path: Path, flaw: Flaw) -> None:
    pair = make_pair(tmp_path / "signer", KINDS["es256"](), flaw=flaw)
    with pytest.raises(CredentialsError, match=r"certificate\.pem is not fit to sign films.*extended key usage"):
        Identity.open(pair.key, pair.certificate)


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "signer", KINDS["es256"](), flaw="expired")
    with pytest.raises(CredentialsError, match=r"certificate\.pem is valid from .*, not now"):
        Identity.open(pair.key, pair.certificate)


def test_files_that_are_no_pair_are_refused_by_name(tmp_path: Path) -> None:
    one, other = (make_pair(tmp_path / name, KINDS["es256"]()) for name in ("one", "other"))
    with pytest.raises(CredentialsError, match="does not begin with the certificate of"):
        Identity.open(one.key, other.certificate)
    with pytest.raises(CredentialsError, match=r"key\.pem holds no certificate"):
        Identity.open(one.key, one.key)
    with pytest.raises(CredentialsError, match=r"certificate\.pem is no private key"):
        Identity.open(one.certificate, one.certificate)
    with pytest.raises(CredentialsError, match=r"nothing\.pem cannot be read"):
        Identity.open(tmp_path / "nothing.pem", one.certificate)
    locked = serialization.load_pem_private_key(one.key.read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"word")
    one.key.write_bytes(locked.private_bytes(PEM, serialization.PrivateFormat.PKCS8, password))
    with pytest.raises(CredentialsError, match="locked by a password: unlock a copy"):
        Identity.open(one.key, one.certificate)


def test_the_local_key_is_made_once_for_its_owner_alone(
    no_key_of_the_user: Path, caplog: pytest.LogCaptureFixture, film: Path
) -> None:
    caplog.set_level(logging.INFO)
    first = Identity.local()
    assert "nobody vouches for it" in caplog.text
    assert stat.S_IMODE((no_key_of_the_user / KEY_NAME).stat().st_mode) == 0o600
    assert [path.name for path in no_key_of_the_user.parent.iterdir()] == ["signing"]
    caplog.clear()
    assert Identity.local() == first
    assert not caplog.text
    seal(film, CLAIMS, first)
    verdict = verify(film)
    assert (verdict.judgement, verdict.vouched_by) == ("valid", str(no_key_of_the_user / CERTIFICATE_NAME))


def test_processes_that_make_the_local_key_at_once_get_the_same(no_key_of_the_user: Path) -> None:
    code = "from lipwright.credentials import Identity, fingerprint; print(fingerprint(Identity.local().certificates))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert all(process.returncode == 0 for process in started)
    assert [path.name for path in no_key_of_the_user.parent.iterdir()] == ["signing"]


def test_a_local_key_that_cannot_be_kept_or_is_damaged_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_key_of_the_user: Path
) -> None:
    Identity.local()
    (no_key_of_the_user / KEY_NAME).write_text("scribble")
    with pytest.raises(CredentialsError, match=r"no private key.*or remove .*signing, and a new key"):
        Identity.local()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(CredentialsError, match=r"can be kept in .*--sign-key and --sign-cert"):
        Identity.local()


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"), Parts(frames=8))


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes((8000 * np.sin(np.arange(4 * 640) / 9)).astype("<i2").tobytes())
    return path


@pytest.fixture
def render(lipwright: Command, avatar: Avatar, speech: Path) -> Command:
    def run(out: Path, *more: str | Path) -> Outcome:
        options = ("--avatar", avatar.path, "--runtime", "onnxruntime", "-o", out)
        return lipwright("render", speech, *options, *more)

    return run


@pytest.mark.parametrize("name", ["film.mp4", "frames"])
def test_render_signs_and_verify_reads(
    render: Command, lipwright: Command, avatar: Avatar, tmp_path: Path, name: str
) -> None:
    made = render(tmp_path / name, "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["signed_by"] == "lipwright local, self-made, signer"
    found = lipwright("verify", tmp_path / name, "--json")
    verdict = json.loads(found.out)
    assert found.code == 0
    files = avatar.manifest.files
    assert verdict["sha256"] == {
        "generator": files["checkpoint/model_best.onnx"],
        "audio_encoder": files["audio_encoder.onnx"],
        "template": files["full_body_video.mp4"],
    }
    words = lipwright("verify", tmp_path / name)
    assert words.out.startswith(f"{tmp_path / name}: valid\nsigned by: lipwright local, self-made, signer (known by ")
    assert "avatar: tiny\n" in words.out


def test_render_signs_with_the_users_key(render: Command, lipwright: Command, tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "signer", KINDS["es256"]())
    made = render(tmp_path / "film.mp4", "--sign-key", pair.key, "--sign-cert", pair.certificate)
    assert made.code == 0, made.err
    assert lipwright("verify", tmp_path / "film.mp4", "--trust", pair.root).code == 0
    stranger = make_pair(tmp_path / "stranger", KINDS["es256"]())
    refused = lipwright("verify", tmp_path / "film.mp4", "--trust", stranger.root)
    assert refused.code == 1
    assert ": untrusted; none of the certificates in" in refused.out


def test_half_a_pair_is_wrong_usage(render: Command, tmp_path: Path) -> None:
    outcome = render(tmp_path / "film.mp4", "--sign-key", tmp_path / "key.pem")
    assert outcome.code == 2
    assert not (tmp_path / "film.mp4").exists()


def test_without_credentials_the_user_is_told_what_he_takes_upon_himself(
    render: Command, lipwright: Command, tmp_path: Path, no_key_of_the_user: Path
) -> None:
    made = render(tmp_path / "film.mp4", "--no-credentials")
    assert made.code == 0
    assert made.err.count("\n") == 1
    assert "to tell everyone who sees it" in made.err
    assert not no_key_of_the_user.exists()
    found = lipwright("verify", tmp_path / "film.mp4")
    assert found.code == 1
    assert f"plain comment, not signed: {SYNTHETIC}" in found.out


def test_render_says_how_to_get_c2pa(render: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Identity.local()
    monkeypatch.setitem(sys.modules, "c2pa", None)
    monkeypatch.setattr(Renderer, "stream", None)  # it is said before the first frame is drawn
    outcome = render(tmp_path / "film.mp4")
    assert outcome.code == 1
    assert "pip install c2pa-python; or render with --no-credentials" in outcome.err


# --- cost and the network -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_signing_costs_less_than_a_fiftieth_of_the_render(caplog: pytest.LogCaptureFixture) -> None:
    """The demo as a user runs it, against all that signing adds to it, each in a process of its own."""
    pairs = measure(builtin_sound(), 1)
    caplog.set_level(logging.INFO)
    logging.getLogger(__name__).info("%s", table(pairs))
    assert pairs[0].share < AIM
