"""Content Credentials: what a film says about itself, signed, so that a change shows (C2PA, through ``c2pa-python``).

Everything happens on this machine: no time stamp server, no revocation list, no manifest from elsewhere. A signature
proves that the film is what its signer signed. Who the signer is, it proves only to those who know his certificate:
``verify(film, trust=...)``.
"""

from lipwright.credentials.identity import Identity, fingerprint, signature_holds, signer_name, signing_folder
from lipwright.credentials.judging import Verdict, verify
from lipwright.credentials.sealing import SYNTHETIC, Claims, seal

__all__ = [
    "SYNTHETIC",
    "Claims",
    "Identity",
    "Verdict",
    "fingerprint",
    "seal",
    "signature_holds",
    "signer_name",
    "signing_folder",
    "verify",
]
