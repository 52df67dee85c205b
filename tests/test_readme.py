"""Blocks of the documents that say ``<!-- test -->`` run as they stand, in a folder with the files that they name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from avatars import Parts, make_avatar
from pages import PAGES
from test_cli import foreign_package
from test_credentials import make_pair

BLOCK = re.compile(r"^<!-- test -->\n```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
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


def write_pair(key: Path) -> None:
    """A key and, in the same folder, the certificate of its owner, with that of the issuer behind it."""
    pair = make_pair(key.parent / "signer", ec.generate_private_key(ec.SECP256R1()))
    key.write_bytes(pair.key.read_bytes())
    key.with_name("certificate.pem").write_bytes(pair.certificate.read_bytes() + pair.root.read_bytes())


def write_avatar(path: Path) -> None:
    """A small one, without any word about consent."""
    made = make_avatar(path.parent / "made", Parts(frames=8), name=path.stem, consent=None)
    made.path.rename(path)


#: What the reader has, by the name that blocks call it.
FILES: dict[str, Callable[[Path], object]] = {
    "speech.wav": write_speech,
    "key.pem": write_pair,
    "NAME.avatar": write_avatar,
    "ada.avatar": write_avatar,
    "FOLDER": foreign_package,
}


def furnish(folder: Path, code: str) -> None:
    """Put what ``code`` names into a folder, but what it makes itself."""
    for name, write in FILES.items():
        if re.search(rf"(?<![\w./]){re.escape(name)}", code) and f"-o {name}" not in code:
            write(folder / name)


@pytest.mark.parametrize("block", list(blocks()), ids=lambda b: f"{b.page.name}:{b.line}")
def test_block_runs(block: Block, tmp_path: Path) -> None:
    furnish(tmp_path, block.code)
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*command, block.code], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
