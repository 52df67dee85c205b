"""The consent of the person shown: signed with the avatar, and judged before it speaks.

The signature binds a consent to one avatar: it shows that neither was exchanged since. That the person really agreed,
only the signer can vouch for.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lipwright.avatar.manifest import Consent, ConsentSeal, Manifest
from lipwright.credentials import Identity, signature_holds, signer_name

if TYPE_CHECKING:
    from lipwright.avatar.package import Avatar

#: How the record of a synthetic face begins: there is nobody to ask.
NOBODY = "nobody"

State = Literal["nobody", "signed", "unsigned", "broken", "none"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What an avatar's consent is worth."""

    state: State
    """``nobody`` is shown; ``signed``: the signature holds; ``unsigned``; ``broken``: it does not hold; ``none``."""
    sentence: str
    """The same in words, with who, when and what for."""

    @property
    def suffices(self) -> bool:
        """Whether the avatar may speak without a visible mark."""
        return self.state in ("nobody", "signed")


def sign_consent(avatar: Avatar, consent: Consent, identity: Identity) -> Avatar:
    """Save the avatar over itself with ``consent``, signed together with the sha256 of all its files.

    Raises:
        AvatarError: the disk refuses, or the package would not open.
    """
    files = dict(avatar.manifest.files)
    signature = identity.sign(_message(avatar.manifest.name, consent, files))
    seal = ConsentSeal(
        certificate=identity.certificates.decode("ascii"), signature=base64.b64encode(signature).decode(), files=files
    )
    sealed = Consent(**{**consent.model_dump(), "seal": seal})
    return avatar.save(manifest=avatar.manifest.changed(consent=sealed))


def consent_standing(manifest: Manifest) -> Standing:
    """Judge the consent in a manifest by its signature and the manifest's sha256 of every file."""
    consent = manifest.consent
    if consent is None:
        return Standing("none", "no consent is on file")
    if consent.shown.startswith(NOBODY):
        return Standing("nobody", consent.shown)
    words = f"{consent.shown} is shown; {consent.agreed_by} agreed on {consent.agreed_on} to: {consent.purpose}"
    if consent.seal is None:
        return Standing("unsigned", f"{words}; not signed")
    fault = _fault(manifest, consent, consent.seal)
    if fault:
        return Standing("broken", f"{words}; the signature does not hold: {fault}")
    return Standing("signed", f"{words}; signed by {signer_name(consent.seal.certificate.encode())}")


def _fault(manifest: Manifest, consent: Consent, seal: ConsentSeal) -> str | None:
    """What is wrong with the signature; None: it holds."""
    other = sorted(name for name, digest in seal.files.items() if manifest.files.get(name) != digest)
    if other:
        return f"{other[0]} is not the file that was signed"
    try:
        signature = base64.b64decode(seal.signature, validate=True)
    except binascii.Error:
        return "it is damaged"
    message = _message(manifest.name, consent, seal.files)
    if not signature_holds(seal.certificate.encode(), signature, message):
        return "the consent or the avatar's name was changed after it was signed"
    return None


def _message(name: str, consent: Consent, files: dict[str, str]) -> bytes:
    """What is signed, the same bytes everywhere."""
    record = consent.model_dump(mode="json", exclude={"seal"})
    content = {"avatar": name, "consent": record, "files": files}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
