"""Avatars as packages: ``import``, ``export``, ``info``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lipwright.audio.window import Padding
from lipwright.cli.app import app, open_avatar, print_json
from lipwright.cli.options import AsJson, Debug, Force, PackageOutput, Verbose
from lipwright.contract import FPS
from lipwright.runtimes.stored import Store

if TYPE_CHECKING:
    from lipwright.avatar import Avatar


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Folder of a package made elsewhere.")],
    out: PackageOutput,
    audio_encoder: Annotated[Path | None, typer.Option(help="ONNX or .pth, where the package holds none.")] = None,
    generator: Annotated[Path | None, typer.Option(help="ONNX or .pth, where the package holds none.")] = None,
    padding: Annotated[Padding | None, typer.Option(help="Beyond the ends of the sound.")] = None,
    force: Force = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make an avatar from a package in one of the layouts found in the wild."""
    from lipwright.avatar import import_package

    report = import_package(
        source, out, audio_encoder=audio_encoder, generator=generator, padding=padding, replace=force
    )
    typer.echo("\n".join(report.lines()))


@app.command()
def export(
    avatar: Annotated[str, typer.Argument(help="Path, or NAME of NAME.avatar.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights (.pth) instead of those in the avatar.")] = None,
    fast: Annotated[
        Path | None, typer.Option(help="Add these weights (.pth) of mobile width as the generator of --quality fast.")
    ] = None,
    store: Annotated[
        Store, typer.Option(help="What the files keep weights in: int8 is half of f16, f16 half of f32.")
    ] = "f16",
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make ONNX of an avatar's torch weights, and prove that both draw the same."""
    from lipwright.export_avatar import export_avatar, export_fast

    if fast is not None and checkpoint is not None:
        raise typer.BadParameter("adds a second generator, --checkpoint replaces the first: one of them at a time")
    opened = open_avatar(avatar)
    exported = export_avatar(opened, checkpoint, store) if fast is None else export_fast(opened, fast, store)
    parities = {key: m.parity.model_dump() for key, m in exported.manifest.models.records().items() if m.parity}
    if as_json:
        print_json({"path": str(exported.path), "parity": parities})
    else:
        for key, parity in parities.items():
            figures = ", ".join(f"{name} {value}" for name, value in parity.items() if value is not None)
            typer.echo(f"{exported.path}: {key}: {figures}")


@app.command()
def info(
    avatar: Annotated[str | None, typer.Argument(help="Path, or NAME of NAME.avatar; else the presenter.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Look into every file; exit with 1 if one is wrong.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Say what an avatar is made of, who agreed to it, and what it can do."""
    from lipwright.avatar import consent_standing

    opened = open_avatar(avatar)
    problems = opened.verify() if verify else []
    if as_json:
        facts = {
            "path": str(opened.path),
            "missing": opened.missing(),
            "qualities": opened.qualities,
            "consent": asdict(consent_standing(opened.manifest)),
            "manifest": opened.manifest.model_dump(mode="json"),
        }
        print_json(facts | ({"problems": problems} if verify else {}))
    else:
        found = [f"wrong: {problem}" for problem in problems] or ["verified: every file is right"] * verify
        typer.echo("\n".join([*_describe(opened), *found]))
    if problems:
        raise typer.Exit(1)


def _describe(avatar: Avatar) -> list[str]:
    """An avatar in lines of plain text."""
    from lipwright.avatar import consent_standing

    manifest = avatar.manifest
    sizes, window = manifest.sizes, manifest.window
    lines = [
        f"{avatar.name}  ({avatar.path})",
        f"template: {sizes.width} x {sizes.height}, {sizes.frames} frames, {sizes.frames / FPS:.2f} s",
        f"crops are resized by {manifest.resize}; the window of {window.past} + 1 + {window.future} features is padded "
        f"by {window.padding}; the encoder is aligned {manifest.encoder.alignment.name}",
    ]
    lines += [f"{key}: {m.file}, {m.licence}, {m.origin}" for key, m in manifest.models.records().items()]
    lines += [f"draws in: {' and '.join(avatar.qualities)} quality"] if avatar.qualities else []
    lines += [f"source: {manifest.source}"] if manifest.source else []
    lines.append(f"consent: {consent_standing(manifest).sentence}")
    lines += [f"assumed: {sentence}" for sentence in manifest.assumptions]
    lines += [f"{name}: {value}" for name, value in manifest.figures.items()]
    return lines + [f"missing: {sentence}" for sentence in avatar.missing()]
