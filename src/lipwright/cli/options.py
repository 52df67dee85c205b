"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lipwright.cli.process import set_debug, set_verbose
from lipwright.contract import WINDOW_FUTURE, Border, BuiltIn, Quality
from lipwright.runtimes.base import Precision

Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", callback=set_verbose, is_eager=True, help="Say what is done.")
]
Debug = Annotated[
    bool, typer.Option("--debug", callback=set_debug, help="Say everything; show where errors come from.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that is there already.")]
Output = Annotated[str, typer.Option("-o", "--out", help="OUT.mp4, or FOLDER/ for PNG pictures and sound.wav.")]
PackageOutput = Annotated[Path, typer.Option("-o", "--out", help="NAME.avatar, the folder to write.")]
RuntimeName = Annotated[
    str, typer.Option("--runtime", help="auto, onnxruntime, openvino or torch; onnxruntime:cuda names a provider.")
]
BuiltInName = Annotated[BuiltIn, typer.Option("--avatar", help="Who speaks, each in a voice of his or her own.")]
QualityName = Annotated[
    Quality, typer.Option(help="fast draws with the avatar's second, narrower network, where it has one.")
]
PrecisionName = Annotated[Precision, typer.Option(help="Arithmetic of the generator.")]
BorderName = Annotated[Border, typer.Option(help="soft blends the new region into the frame; exact pastes it.")]
Lookahead = Annotated[int, typer.Option(min=0, max=WINDOW_FUTURE, help="Future features that a frame waits for.")]
