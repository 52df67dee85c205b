"""Sign a finished film, or a folder of pictures with their sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from lipwright.credentials.identity import Identity
from lipwright.credentials.library import FILM_TYPE, SOUND_TYPE, assertion, builder, created, library
from lipwright.digest import sha256
from lipwright.errors import CredentialsError
from lipwright.video import SOUND_NAME

#: Labels of our own assertions: how the film was made; the pictures that belong to a sound.
FILM_ASSERTION = "lipwright.film"
PICTURES_ASSERTION = "lipwright.pictures"
#: The plain comment of a film; it survives programs that drop credentials.
SYNTHETIC = "synthetic: a trained network made the mouth of this film speak (lipwright)"


@dataclass(frozen=True, slots=True)
class Claims:
    """What is said about a film."""

    avatar: str
    """Name of the avatar."""
    files: Mapping[str, str]
    """sha256 by what it is of: generator, audio_encoder, template."""
    consent: str
    """One sentence about the consent of the person shown."""

    @classmethod
    def of(cls, avatar: str, files: Mapping[str, Path], consent: str) -> Self:
        """Claims with the sha256 of ``files`` as they are on the disk now."""
        return cls(avatar, {what: sha256(path) for what, path in files.items()}, consent)


def seal(work: Path, claims: Claims, identity: Identity) -> None:
    """Sign a finished MP4, or a folder of PNG pictures with their sound, in place.

    A folder's credentials are those of its sound; they hold the sha256 of every picture.

    Raises:
        CredentialsError: signing failed; the work is as it was.
    """
    said = {"avatar": claims.avatar, "sha256": dict(claims.files), "consent": claims.consent}
    assertions = [created(datetime.now(UTC)), assertion(FILM_ASSERTION, said)]
    if work.is_dir():
        assertions.append(assertion(PICTURES_ASSERTION, {"sha256": picture_hashes(work)}))
        _sign(work / SOUND_NAME, SOUND_TYPE, assertions, identity)
    else:
        _sign(work, FILM_TYPE, assertions, identity)


def picture_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every PNG file of a folder, by name."""
    return {path.name: sha256(path) for path in sorted(folder.glob("*.png"))}


def _sign(path: Path, media_type: str, assertions: list[dict[str, Any]], identity: Identity) -> None:
    signed = path.with_name(f"{path.name}.signed")
    try:
        with path.open("rb") as source, signed.open("w+b") as target:
            builder(assertions, media_type).sign(identity.signer(), media_type, source, target)
        signed.replace(path)
    except (library().C2paError, OSError) as error:
        raise CredentialsError(
            f"{path} cannot be signed: {error}; render again with another key, or with --no-credentials"
        ) from error
    finally:
        signed.unlink(missing_ok=True)
