"""Who signs: a private key and its certificate, the user's own or one made here."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import tempfile
import wave
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lipwright.credentials.library import SOUND_TYPE, builder, context, created, library
from lipwright.errors import CredentialsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PSS
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.x509 import Certificate, Name

logger = logging.getLogger(__name__)

#: Organisation in the certificate of a key that lipwright made: nobody vouches for it.
SELF_MADE = "lipwright local, self-made"
KEY_NAME, CERTIFICATE_NAME = "key.pem", "certificate.pem"
#: Films carry no time stamp of an authority, so they hold only as long as their certificate: 30 years.
LIFETIME = timedelta(days=10_957)
#: A film signed now must also hold on a machine whose clock is late.
CLOCK_TOLERANCE = timedelta(days=1)
#: C2PA's names by those of the curves.
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

_RULES = (
    "it must be a signer's, not an authority's, with the key usage digitalSignature and the extended key usage "
    "emailProtection; its issuers follow it in the same file"
)


@dataclass(frozen=True)
class Identity:
    """A private key and its certificate."""

    key: bytes = field(repr=False)
    """PEM, not locked."""
    certificates: bytes
    """PEM: the signer's own first, then its issuers."""
    algorithm: str
    """C2PA's name: es256, es384, es512, ps256 or ed25519."""
    where: Path
    """The certificate's file."""

    @classmethod
    def open(cls, key: Path, certificate: Path) -> Self:
        """Read PEM files and prove, by signing and reading a short sound, that they can sign credentials.

        Raises:
            CredentialsError: unreadable, locked, not belonging together, expired, or not fit for credentials.
        """
        identity = cls._read(key, certificate)
        identity._prove()
        return identity

    @classmethod
    def local(cls, folder: Path | None = None) -> Self:
        """The user's own key of this machine, made at first use.

        Args:
            folder: where it is kept; None: ``signing_folder()``.

        Raises:
            CredentialsError: it cannot be written or is damaged.
        """
        folder = folder or signing_folder()
        key, certificate = folder / KEY_NAME, folder / CERTIFICATE_NAME
        if not folder.is_dir():
            make_local(folder)
            logger.info("a key to sign with was made in %s; it is self-made: nobody vouches for it", folder)
            return cls.open(key, certificate)
        try:
            return cls._read(key, certificate)
        except CredentialsError as error:
            raise CredentialsError(f"{error}; or remove {folder}, and a new key will be made") from error

    @classmethod
    def _read(cls, key: Path, certificate: Path) -> Self:
        private, key_pem = _load_key(key)
        own, chain_pem = load_certificates(certificate)
        if own.public_key() != private.public_key():
            raise CredentialsError(
                f"{certificate} does not begin with the certificate of {key}: give the one of this key"
            )
        if not own.not_valid_before_utc <= datetime.now(UTC) <= own.not_valid_after_utc:
            days = f"{own.not_valid_before_utc.date()} to {own.not_valid_after_utc.date()}"
            raise CredentialsError(f"{certificate} is valid from {days}, not now: give one that is")
        return cls(key_pem, chain_pem, _algorithm(private, key), certificate)

    @property
    def name(self) -> str:
        """Organisation and common name of the signer."""
        return signer_name(self.certificates)

    def sign(self, data: bytes) -> bytes:
        """A detached signature over ``data``, which ``signature_holds`` checks."""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

        private = serialization.load_pem_private_key(self.key, None)
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return private.sign(data)
        if isinstance(private, ec.EllipticCurvePrivateKey):
            return private.sign(data, ec.ECDSA(hashes.SHA256()))
        assert isinstance(private, rsa.RSAPrivateKey)  # _algorithm lets no other in
        return private.sign(data, _pss(), hashes.SHA256())

    def signer(self) -> Any:
        """This key for the C2PA library, without a time stamp authority."""
        c2pa = library()
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm, self.certificates, self.key, None))

    def _prove(self) -> None:
        c2pa = library()
        sound, signed = _short_sound(), io.BytesIO()
        try:
            builder([created(datetime.now(UTC))], SOUND_TYPE).sign(self.signer(), SOUND_TYPE, sound, signed)
            state = c2pa.Reader(SOUND_TYPE, signed, context=context()).get_validation_state()
        except c2pa.C2paError as error:
            raise CredentialsError(f"{self.where} is not fit to sign films ({error}): {_RULES}") from error
        if state != "Valid":
            raise CredentialsError(f"{self.where} is not fit to sign films: {_RULES}")


def _short_sound() -> io.BytesIO:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(160))
    return sound


def signing_folder() -> Path:
    """Where the user's own key is kept: in the user's configuration (``XDG_CONFIG_HOME`` goes first)."""
    home = Path.home()
    usual = {"darwin": home / "Library" / "Application Support", "win32": Path(os.environ.get("APPDATA", home))}
    base = os.environ.get("XDG_CONFIG_HOME") or usual.get(sys.platform, home / ".config")
    return Path(base) / "lipwright" / "signing"


# --- certificates and signatures ------------------------------------------------------------------------------------


def signer_name(certificate: bytes) -> str:
    """Organisation and common name in the first certificate of a PEM."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    name = x509.load_pem_x509_certificate(certificate).subject
    parts = [
        part.value
        for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        for part in name.get_attributes_for_oid(oid)
    ]
    return ", ".join(str(part) for part in parts)


def fingerprint(certificate: bytes) -> str:
    """sha256 of the first certificate of a PEM, hex: what two people compare to know that they mean the same key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def signature_holds(certificate: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the owner of the first certificate of a PEM signed exactly ``data`` (with ``Identity.sign``)."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        _check_signature(x509.load_pem_x509_certificate(certificate).public_key(), signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _check_signature(public: PublicKeyTypes, signature: bytes, data: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(signature, data)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    elif isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, data, _pss(), hashes.SHA256())
    else:
        raise ValueError(f"lipwright signs nothing with a {type(public).__name__}")


def _pss() -> PSS:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def _load_key(path: Path) -> tuple[PrivateKeyTypes, bytes]:
    """A private key, and its PEM in the one form that the C2PA library reads for every kind."""
    from cryptography.hazmat.primitives import serialization

    pem = _read_file(path)
    try:
        private = serialization.load_pem_private_key(pem, None)
    except TypeError as error:
        raise CredentialsError(
            f"{path} is locked by a password: unlock a copy with `openssl pkey -in {path}`"
        ) from error
    except ValueError as error:
        raise CredentialsError(
            f"{path} is no private key in PEM: give the key that belongs to the certificate"
        ) from error
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return private, private.private_bytes(encoding, form, serialization.NoEncryption())


def load_certificates(path: Path) -> tuple[Certificate, bytes]:
    """The first certificate of a PEM file, and the whole file.

    Raises:
        CredentialsError: unreadable, or no certificate in it.
    """
    from cryptography import x509

    pem = _read_file(path)
    try:
        return x509.load_pem_x509_certificates(pem)[0], pem
    except ValueError as error:
        raise CredentialsError(
            f"{path} holds no certificate in PEM: give the signer's own, then its issuers"
        ) from error


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read ({error.strerror}): give a PEM file") from error


def _algorithm(private: PrivateKeyTypes, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in CURVES:
        return CURVES[private.curve.name]
    raise CredentialsError(f"{path}: credentials need an EC key (P-256, P-384, P-521), Ed25519 or RSA")


# --- a key of one's own ---------------------------------------------------------------------------------------------


def make_local(folder: Path) -> None:
    """Write a key (mode 0600) and its certificate to ``folder``, which appears whole; one that is there stays.

    Raises:
        CredentialsError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _cannot_keep(folder, error) from error
    try:
        _write_pair(draft)
        draft.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was quicker, and its key is used
            raise _cannot_keep(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _cannot_keep(folder: Path, error: OSError) -> CredentialsError:
    return CredentialsError(
        f"no key to sign with can be kept in {folder} ({error.strerror}): give --sign-key and --sign-cert, or let "
        "XDG_CONFIG_HOME name a folder that can be written"
    )


def _write_pair(folder: Path) -> None:
    """A new P-256 key, its certificate, and the root that issued it, whose key nobody has any more.

    C2PA refuses a certificate that signed itself, so there is a root; others who trust it know this key by it.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("root", root_key.public_key(), root_key, is_root=True)
    own = _certificate("signer", key.public_key(), root_key, is_root=False)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    with os.fdopen(os.open(folder / KEY_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(pem, form, serialization.NoEncryption()))
    (folder / CERTIFICATE_NAME).write_bytes(own.public_bytes(pem) + root.public_bytes(pem))


def _certificate(
    role: str, public: EllipticCurvePublicKey, issuer_key: EllipticCurvePrivateKey, *, is_root: bool
) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    now = datetime.now(UTC)
    other_uses = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    uses = dict.fromkeys((*other_uses, "encipher_only", "decipher_only"), False)
    usage = x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **uses)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(role))
        .issuer_name(_name("root"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(is_root, 0 if is_root else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer, critical=False)
    )
    if not is_root:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        certificate = certificate.add_extension(purpose, critical=False)
    return certificate.sign(issuer_key, hashes.SHA256())


def _name(role: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = ((NameOID.ORGANIZATION_NAME, SELF_MADE), (NameOID.COMMON_NAME, role))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])
