"""Blocks of the documents that say ``<!-- test -->`` run as they stand, in a folder with a ``speech.wav``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^<!-- test -->\n```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str


def blocks() -> Iterator[Block]:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            yield Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2])


def test_the_readme_has_blocks_that_run() -> None:
    assert {block.language for block in blocks() if block.page.name == "README.md"} == {"bash", "python"}


def write_speech(path: Path) -> None:
    """A second and a half of a hum, 44.1 kHz mono: enough to be a sound."""
    times = np.arange(66_150) / 44_100
    hum = 0.3 * np.sin(2 * np.pi * 140 * times) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * times))
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 44_100, 0, "NONE", ""))
        writer.writeframes((hum * 32_767).astype("<i2").tobytes())


@pytest.mark.parametrize("block", blocks(), ids=lambda b: f"{b.page.name}:{b.line}")
def test_block_runs(block: Block, tmp_path: Path) -> None:
    write_speech(tmp_path / "speech.wav")
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*command, block.code], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
