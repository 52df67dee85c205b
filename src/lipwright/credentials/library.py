"""The C2PA library, kept from the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from lipwright.errors import CredentialsError

#: IPTC's word for media that a trained network made.
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
ACTIONS = "c2pa.actions.v2"
FILM_TYPE, SOUND_TYPE = "video/mp4", "audio/wav"
#: Nothing is fetched, whatever the credentials ask for, and films stay on the disk.
_SETTINGS: Mapping[str, Any] = {
    # MB; the library would keep twice 500 MB of a film in memory.
    "core": {"backing_store_memory_threshold_in_mb": 32},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


def library() -> Any:
    """The module ``c2pa``.

    Raises:
        CredentialsError: it is not installed, or its native library does not run here.
    """
    try:
        import c2pa
    except (ImportError, OSError) as error:
        raise CredentialsError(
            f"credentials need c2pa, which cannot be loaded ({error}): pip install c2pa-python; "
            "or render with --no-credentials"
        ) from error
    return c2pa


def context(trust: bytes | None = None) -> Any:
    """Settings for signing and reading.

    Args:
        trust: PEM of certificates whose owners are believed when they vouch for a signer; None: nobody is.
    """
    c2pa = library()
    anchors = {} if trust is None else {"trust": {"user_anchors": trust.decode("ascii", "replace")}}
    return c2pa.Context(c2pa.Settings.from_dict({**_SETTINGS, **anchors}))


def builder(assertions: list[dict[str, Any]], media_type: str) -> Any:
    """A manifest with ``assertions``, about to be signed into a file of ``media_type``."""
    maker = {"name": "lipwright", "version": version("lipwright")}
    manifest = {"claim_generator_info": [maker], "format": media_type, "assertions": assertions}
    return library().Builder(json.dumps(manifest), context())


def assertion(label: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """One thing that is said."""
    return {"label": label, "data": data}


def created(when: datetime) -> dict[str, Any]:
    """It is said that a trained network made this, with lipwright, at ``when`` by this machine's clock."""
    action = {
        "action": "c2pa.created",
        "when": when.isoformat(timespec="seconds"),
        "digitalSourceType": TRAINED_ALGORITHMIC_MEDIA,
        "softwareAgent": {"name": "lipwright", "version": version("lipwright")},
    }
    return assertion(ACTIONS, {"actions": [action]})
