"""Fill in the sha256 column of MODELS.md, and name the files that are listed but not there.

python tools/refresh_models.py
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE_LINE = re.compile(r"^(\| `([^`]+)` \|.*\| )`[^`]*` \|$")


def refreshed(line: str) -> str:
    """A line of MODELS.md with the sha256 of the file it names; other lines unchanged."""
    match = TABLE_LINE.match(line)
    if match is None:
        return line
    path = ROOT / match[2]
    if not path.is_file():
        sys.exit(f"MODELS.md lists {match[2]}, which is not there: remove the line or add the file")
    return f"{match[1]}`{hashlib.sha256(path.read_bytes()).hexdigest()}` |"


def main() -> None:
    """Rewrite MODELS.md."""
    page = ROOT / "MODELS.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    page.write_text("\n".join(refreshed(line) for line in lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
