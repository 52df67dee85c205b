"""Read the credentials of a film and judge whether they hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lipwright.credentials.identity import CERTIFICATE_NAME, load_certificates, signing_folder
from lipwright.credentials.library import ACTIONS, TRAINED_ALGORITHMIC_MEDIA, context, library
from lipwright.credentials.sealing import FILM_ASSERTION, PICTURES_ASSERTION, picture_hashes
from lipwright.errors import MediaError
from lipwright.libav import open_input
from lipwright.video import SOUND_NAME

Judgement = Literal["valid", "untrusted", "changed", "none"]


@dataclass(frozen=True)
class Verdict:
    """What ``verify`` found. Names and claims are the signer's; they are worth what his certificate is worth."""

    path: str
    """The film or the folder."""
    judgement: Judgement
    """``valid``: as signed; ``untrusted``: as signed, but not by whom it should be; ``changed``; ``none``: unsigned."""
    reasons: list[str]
    """What speaks against it, in sentences."""
    signer: str | None = None
    """Organisation and common name in the signer's certificate."""
    vouched_by: str | None = None
    """File with the certificate that stands behind the signer; None: nobody stands behind him."""
    made_with: str | None = None
    """Program and version that made it."""
    made_at: str | None = None
    """By the clock of the machine that made it, ISO 8601."""
    synthetic: bool = False
    """Whether it says of itself that a trained network made it."""
    avatar: str | None = None
    """Name of the avatar, if lipwright made it."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of generator, audio encoder and template, if lipwright made it."""
    consent: str | None = None
    """What is said about the consent of the person shown."""
    comment: str | None = None
    """The plain comment of the file, which nobody signed."""


def verify(work: Path | str, trust: Path | None = None) -> Verdict:
    """Read the credentials of a film, or of a folder of pictures, and judge whether they hold.

    Args:
        work: the film or folder.
        trust: PEM of certificates of which one must stand behind the signer; None: any signer will do, and the
            verdict says whether it was the user's own local key.

    Raises:
        CredentialsError: ``trust`` is unreadable.
        MediaError: no such file, damaged beyond reading, or of a kind that carries no credentials.
    """
    work = Path(work)
    file = work / SOUND_NAME if work.is_dir() else work
    with open_input(file) as container:
        comment = container.metadata.get("comment")
    own = signing_folder() / CERTIFICATE_NAME
    anchors = trust or (own if own.is_file() else None)
    with _read(file, None if anchors is None else load_certificates(anchors)[1]) as found:
        if isinstance(found, str):
            return Verdict(str(work), "changed", [found], comment=comment)
        if found is None:
            reason = "it carries no Content Credentials: it was never signed, or was encoded again since"
            return Verdict(str(work), "none", [reason], comment=comment)
        return _judge(work, json.loads(found.json()), trust, anchors, comment)


@contextmanager
def _read(file: Path, trust: bytes | None) -> Iterator[Any]:
    """The reader of a file's credentials; None without any; a sentence if they are broken."""
    c2pa = library()
    try:
        reader = c2pa.Reader.try_create(str(file), context=context(trust))
    except c2pa.C2paError.NotSupported as error:
        raise MediaError(f"{file} is of a kind that carries no credentials: name an MP4 film") from error
    except c2pa.C2paError as error:
        yield f"the file or its credentials are damaged: {error}"
        return
    if reader is None:
        yield None
        return
    with reader:
        yield reader


def _judge(
    work: Path, store: Mapping[str, Any], trust: Path | None, anchors: Path | None, comment: str | None
) -> Verdict:
    manifest = store["manifests"][store["active_manifest"]]
    said = {entry["label"]: entry["data"] for entry in manifest.get("assertions", [])}
    film, creation = said.get(FILM_ASSERTION, {}), _creation(said)
    trusted = store.get("validation_state") == "Trusted"
    reasons = _wrong_signature(store) + (_wrong_pictures(work, said) if work.is_dir() else [])
    judgement: Judgement = "changed" if reasons else "valid"
    if trust is not None and not reasons and not trusted:
        judgement, reasons = "untrusted", [f"none of the certificates in {trust} stands behind its signer"]
    return Verdict(
        str(work),
        judgement,
        reasons,
        signer=_joined(manifest.get("signature_info", {}), ("issuer", "common_name"), ", "),
        vouched_by=str(anchors) if trusted else None,
        made_with=_joined(manifest.get("claim_generator_info", [{}])[0], ("name", "version"), " "),
        made_at=creation.get("when"),
        synthetic=creation.get("digitalSourceType") == TRAINED_ALGORITHMIC_MEDIA,
        avatar=film.get("avatar"),
        sha256=dict(film.get("sha256", {})),
        consent=film.get("consent"),
        comment=comment,
    )


def _joined(record: Mapping[str, Any], keys: tuple[str, ...], separator: str) -> str | None:
    return separator.join(str(record[key]) for key in keys if record.get(key)) or None


def _creation(said: Mapping[str, Any]) -> Mapping[str, Any]:
    actions = said.get(ACTIONS, {}).get("actions", [])
    return next((action for action in actions if action.get("action") == "c2pa.created"), {})


def _wrong_signature(store: Mapping[str, Any]) -> list[str]:
    """Why the credentials do not hold, in sentences; empty if they do."""
    if store.get("validation_state") in ("Valid", "Trusted"):
        return []
    sentences = []
    for failure in store.get("validation_status", []):
        code = failure["code"]
        if code.endswith(("bmffHash.mismatch", "dataHash.mismatch")):
            sentences.append("picture or sound were changed after it was signed")
        elif code != "signingCredential.untrusted":
            sentences.append(f"the credentials do not hold: {failure.get('explanation', code)} ({code})")
    return sentences or ["the credentials do not hold"]


def _wrong_pictures(folder: Path, said: Mapping[str, Any]) -> list[str]:
    signed, found = said.get(PICTURES_ASSERTION, {}).get("sha256", {}), picture_hashes(folder)
    wrong = sorted(name for name in signed.keys() | found.keys() if signed.get(name) != found.get(name))
    return [f"{len(wrong)} of its pictures are not the signed ones, the first is {wrong[0]}"] if wrong else []
