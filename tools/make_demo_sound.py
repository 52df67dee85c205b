"""Make what the built-in presenters say: the sentences of demo_sentences.txt read aloud by a voice of flite.

    python -m tools.make_demo_sound [OUT.flac] --voice rms

Beside it, with the suffix .json, what is said when: so that anybody's lips can be asked whether they close on p, b, m.
Needs the Debian package flite. Who speaks says who that is, and that nobody was filmed. The sentences are in no
training data: whoever collects training text leaves out all of `everything_said`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from lipwright.contract import SAMPLE_RATE
from tools.speech.phones import Phone
from tools.speech.voices import FliteVoice, Spoken, Tape, speak_flite

#: What each voice is called when it speaks, and where that lies in the package.
NAMES = {"rms": "Robin", "slt": "Mira"}
PLACES = {"rms": "demo.flac", "slt": "demo_mira.flac"}
STRETCH = 0.95
#: Seconds of rest before the first sentence, between two, and after the last.
LEAD, GAP, TAIL = 0.5, 0.45, 0.8
#: Loudest sample of the file, -3 dB of full scale.
PEAK = 0.708

Int16Array = npt.NDArray[np.int16]


def sentences(name: str) -> list[str]:
    """The demo's sentences, one a line, as somebody called ``name`` says them."""
    text = Path(__file__).with_name("demo_sentences.txt").read_text(encoding="utf-8").format(name=name)
    return [line.strip() for line in text.splitlines() if line.strip()]


def everything_said() -> set[str]:
    """The demo's sentences, as each presenter says them."""
    return {sentence for name in NAMES.values() for sentence in sentences(name)}


def compose(voice: str) -> Spoken:
    """All sentences with their rests, scaled to the peak level."""
    tape, said = Tape(), sentences(NAMES[voice])
    for rest, sentence in zip([LEAD, *[GAP] * (len(said) - 1)], said, strict=True):
        tape.rest(rest)
        tape.say(speak_flite(sentence, FliteVoice(voice, STRETCH)))
    tape.rest(TAIL)
    whole = tape.whole()
    loudest = int(np.abs(whole.samples.astype(np.int32)).max())
    return replace(whole, samples=np.rint(whole.samples * (PEAK * 32767 / loudest)).astype(np.int16))


def write_phones(path: Path, phones: Sequence[Phone]) -> None:
    """What is said when, as JSON: [name, start, end] of each sound in seconds, pauses too."""
    said = [[phone.symbol, round(phone.start, 3), round(phone.end, 3)] for phone in phones]
    path.write_text(json.dumps(said) + "\n", encoding="utf-8")


def write_flac(path: Path, samples: Int16Array) -> None:
    """Mono 16-bit FLAC at 16 kHz, without tags that change from run to run."""
    with av.open(str(path), "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, nargs="?", help="default: its place in the package")
    parser.add_argument("--voice", choices=PLACES, default="rms")
    options = parser.parse_args()
    out = options.out or Path(__file__).parent.parent / "src" / "lipwright" / "data" / PLACES[options.voice]
    out.parent.mkdir(parents=True, exist_ok=True)
    spoken = compose(options.voice)
    write_flac(out, spoken.samples)
    write_phones(out.with_suffix(".json"), spoken.phones)
    print(f"{out}: {len(spoken.samples) / SAMPLE_RATE:.2f} s, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
