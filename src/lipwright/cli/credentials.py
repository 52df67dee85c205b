"""Who made a film and who agreed to it: ``verify``, ``consent``, and how ``demo`` and ``render`` say it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lipwright.cli.app import app, open_avatar, print_json
from lipwright.cli.options import AsJson, Debug, Verbose
from lipwright.cli.process import say
from lipwright.errors import AvatarError

if TYPE_CHECKING:
    from lipwright.avatar import Avatar, Consent
    from lipwright.avatar.disclosure import Disclosure
    from lipwright.credentials import Identity, Verdict

SignKey = Annotated[Path | None, typer.Option("--sign-key", help="Private key, PEM; else a local one made for you.")]
SignCert = Annotated[Path | None, typer.Option("--sign-cert", help="Its certificate and issuers, PEM.")]
NoCredentials = Annotated[
    bool, typer.Option("--no-credentials", help="Do not sign; to say that the film is synthetic is then up to you.")
]
IHaveConsent = Annotated[
    bool, typer.Option("--i-have-consent", help="The person shown agreed, though the avatar has no record: no mark.")
]


@app.command()
def verify(
    film: Annotated[Path, typer.Argument(help="Film, or folder of pictures with sound.wav.")],
    trust: Annotated[Path | None, typer.Option(help="Certificates, PEM: one must stand behind the signer.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Read a film's Content Credentials: who signed, which avatar, unchanged or not; exit 1 unless they hold."""
    from lipwright.credentials import verify as read_and_judge

    verdict = read_and_judge(film, trust)
    if as_json:
        print_json(asdict(verdict))
    else:
        typer.echo("\n".join(_describe(verdict)))
    if verdict.judgement != "valid":
        raise typer.Exit(1)


def _describe(verdict: Verdict) -> list[str]:
    """A verdict in lines of plain text."""
    lines = [f"{verdict.path}: {'; '.join([verdict.judgement, *verdict.reasons])}"]
    if verdict.signer is not None:
        behind = f"known by {verdict.vouched_by}" if verdict.vouched_by else "nobody vouches for this name"
        lines.append(f"signed by: {verdict.signer} ({behind})")
    if verdict.made_with is not None:
        at = f", {verdict.made_at} by that machine's clock" if verdict.made_at else ""
        lines.append(f"made with: {verdict.made_with}{at}")
    lines += ["synthetic: made by a trained network"] * verdict.synthetic
    lines += [f"avatar: {verdict.avatar}"] * (verdict.avatar is not None)
    lines += [f"{what}: sha256 {digest}" for what, digest in verdict.sha256.items()]
    lines += [f"consent: {verdict.consent}"] * (verdict.consent is not None)
    return lines + [f"plain comment, not signed: {verdict.comment}"] * (verdict.comment is not None)


@app.command()
def consent(
    avatar: Annotated[str, typer.Argument(help="Path, or NAME of NAME.avatar.")],
    shown: Annotated[str | None, typer.Option(help='Who is in the film; "nobody: ..." for a synthetic face.')] = None,
    by: Annotated[str | None, typer.Option(help="Who agreed: the person, a guardian or an agent.")] = None,
    purpose: Annotated[str | None, typer.Option("--for", help="What the avatar may be used for.")] = None,
    on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of the consent; else today.")] = None,
    proof: Annotated[str | None, typer.Option(help="Where the consent is kept.")] = None,
    sign_key: SignKey = None,
    sign_cert: SignCert = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Record who agreed to what, and sign it with the avatar. What is left out stays as it was recorded before."""
    from lipwright.avatar import consent_standing, sign_consent

    opened = open_avatar(avatar)
    record = _record(opened, shown, by, purpose, on.date() if on else None, proof)
    signed = sign_consent(opened, record, identity_of(sign_key, sign_cert))
    typer.echo(f"{signed.path}: {consent_standing(signed.manifest).sentence}")


def _record(
    avatar: Avatar, shown: str | None, by: str | None, purpose: str | None, on: date | None, proof: str | None
) -> Consent:
    """The new record: what was said now, else what was recorded before."""
    from lipwright.avatar import Consent

    before = avatar.manifest.consent
    said = {"shown": shown, "agreed_by": by, "purpose": purpose, "agreed_on": on, "proof": proof}
    old = {} if before is None else before.model_dump(exclude={"seal"})
    merged = {key: old.get(key) if value is None else value for key, value in said.items()}
    options = {"shown": "--shown", "agreed_by": "--by", "purpose": "--for"}
    missing = [option for key, option in options.items() if not merged[key]]
    if missing:
        raise AvatarError(f"{avatar.path} has no consent on file yet: say {', '.join(missing)}")
    return Consent.model_validate({**merged, "agreed_on": merged["agreed_on"] or date.today()})


def identity_of(key: Path | None, certificate: Path | None) -> Identity:
    """Who signs: the owner of the two files, or the user's own local key.

    Raises:
        CredentialsError: a file is not fit to sign with.
    """
    from lipwright.credentials import Identity

    if (key is None) != (certificate is None):
        raise typer.BadParameter(
            "a key and its certificate go together: give both", param_hint="--sign-key, --sign-cert"
        )
    return Identity.local() if key is None or certificate is None else Identity.open(key, certificate)


def disclosure_of(
    avatar: Avatar, key: Path | None, certificate: Path | None, *, no_credentials: bool, i_have_consent: bool
) -> Disclosure:
    """What is due for a film of ``avatar``.

    Raises:
        CredentialsError: there is nothing fit to sign with.
    """
    from lipwright.avatar import Disclosure

    identity = None if no_credentials else identity_of(key, certificate)
    return Disclosure.of(avatar, identity, i_have_consent=i_have_consent)


def warn_of(disclosure: Disclosure, avatar: Avatar) -> None:
    """Say on stderr, in a line each, what a film was burdened with or does without."""
    if disclosure.mark is not None:
        say(
            f"{avatar.name}: {disclosure.sentence}: the film carries a visible mark; record the consent with "
            f"`lipwright consent {avatar.path}`, or take it upon yourself with --i-have-consent"
        )
    if disclosure.seal is None:
        say(
            "no credentials: nothing in this film will prove where it comes from or that it is synthetic; to tell "
            "everyone who sees it, as the law asks in many places, is up to you"
        )
