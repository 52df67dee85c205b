"""Look at the installation: ``doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lipwright.cli.app import app, print_json
from lipwright.cli.options import AsJson, Debug, Verbose

if TYPE_CHECKING:
    from lipwright.doctor import Installation


@app.command()
def doctor(
    networks: Annotated[bool, typer.Option(help="Run the presenter's generator in every runtime.")] = True,
    as_json: AsJson = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Look at the installation: what is there, what works, how fast; exit 1 if something is wrong."""
    from lipwright.avatar import builtin_avatar
    from lipwright.avatar.package import GENERATOR
    from lipwright.doctor import examine

    model = builtin_avatar() / GENERATOR
    installation = examine(model if networks and model.is_file() else None)
    if as_json:
        print_json(asdict(installation))
    else:
        typer.echo("\n".join(_describe_installation(installation)))
    if installation.problems:
        raise typer.Exit(1)


def _describe_installation(found: Installation) -> list[str]:
    """An installation in lines of plain text; what is wrong comes last."""
    processor = found.processor
    memory = "" if found.memory_gib is None else f", {found.memory_gib:.0f} GiB"
    lines = [
        f"lipwright {found.lipwright}, Python {found.python}, {found.system}",
        f"{processor.name}, {processor.cores} cores{memory}, {' '.join(processor.flags)}",
        "libraries: " + ", ".join(f"{name} {version or 'missing'}" for name, version in found.libraries.items()),
    ]
    for name, absent in found.extras.items():
        lines.append(f"extra {name}: {'needs ' + ', '.join(absent) if absent else 'ready'}")
    lines.append("codecs: " + ", ".join(what for what, there in found.codecs.items() if there))
    for runtime in found.runtimes:
        speed = "" if runtime.milliseconds is None else f"{runtime.milliseconds:.0f} ms a frame, "
        lines.append(f"{'works' if runtime.works else 'no   '} {runtime.name}: {speed}{runtime.detail}")
    lines.append(f"decisions are kept in {found.cache}")
    lines += [f"hint: {hint}" for hint in found.hints]
    return lines + [f"wrong: {problem}" for problem in found.problems]
