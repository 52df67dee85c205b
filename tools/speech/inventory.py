"""What espeak-ng says, phone by phone: ``python -m tools.speech.inventory`` writes ``inventory.json``.

The test of the mapping reads that file, so that it holds on machines without espeak-ng too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .make_corpus import ACCENTS
from .texts import compose, texts
from .voices import EspeakVoice, speak_espeak

PATH = Path(__file__).parent / "inventory.json"
TEXTS_PER_LANGUAGE = 120


def phones_of(language: str) -> dict[str, list[str]]:
    """Voice language of espeak-ng -> the symbols it says in texts of ``language``."""
    found: dict[str, list[str]] = {}
    for accent in sorted(set(ACCENTS.get(language, (language,)))):
        rng = np.random.default_rng(0)
        spoken = [speak_espeak(compose(rng, language).text, EspeakVoice(accent)) for _ in range(TEXTS_PER_LANGUAGE)]
        found[accent] = sorted({p.symbol for s in spoken for p in s.phones})
    return found


def main() -> None:
    """Write the inventory of every language."""
    inventory: dict[str, list[str]] = {}
    for language in texts():
        inventory |= phones_of(language)
    lines = [f" {json.dumps(k)}: {json.dumps(' '.join(v), ensure_ascii=False)}" for k, v in inventory.items()]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
