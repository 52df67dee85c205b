"""Make what the built-in presenters say: the sentences of demo_sentences.txt read aloud by a voice of flite.

    python tools/make_demo_sound.py [OUT.flac] --voice rms

Needs the Debian package flite. The sentences are in no training data: whoever collects training text leaves out every
line of tools/demo_sentences.txt.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import wave
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

#: Where what each voice says lies in the package: the presenter's rms, mira's slt.
PLACES = {"rms": "demo.flac", "slt": "demo_mira.flac"}
RATE = 16_000
STRETCH = 0.95
#: Seconds of rest before the first sentence, between two, and after the last.
LEAD, GAP, TAIL = 0.5, 0.45, 0.8
#: Loudest sample of the file, -3 dB of full scale.
PEAK = 0.708

Int16Array = npt.NDArray[np.int16]


def sentences() -> list[str]:
    """The demo's sentences, one a line."""
    text = Path(__file__).with_name("demo_sentences.txt").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


def speak(sentence: str, voice: str) -> Int16Array:
    """One sentence as int16 samples at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sentence.wav"
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={STRETCH}", "-t", sentence, "-o", str(sound)]
        subprocess.run(command, check=True)
        with wave.open(str(sound)) as reader:
            if reader.getframerate() != RATE:
                raise SystemExit(f"flite's voice {voice} speaks at {reader.getframerate()} Hz, expected {RATE}")
            return np.frombuffer(reader.readframes(reader.getnframes()), "<i2").astype(np.int16)


def silence(seconds: float) -> Int16Array:
    """Digital silence."""
    return np.zeros(round(seconds * RATE), np.int16)


def compose(voice: str) -> Int16Array:
    """All sentences with their rests, scaled to the peak level."""
    parts = [silence(LEAD)]
    for sentence in sentences():
        parts += [speak(sentence, voice), silence(GAP)]
    samples = np.concatenate([*parts[:-1], silence(TAIL)])
    loudest = int(np.abs(samples.astype(np.int32)).max())
    return np.rint(samples * (PEAK * 32767 / loudest)).astype(np.int16)


def write_flac(path: Path, samples: Int16Array) -> None:
    """Mono 16-bit FLAC at 16 kHz, without tags that change from run to run."""
    with av.open(str(path), "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=RATE)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate = RATE
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
    samples = compose(options.voice)
    write_flac(out, samples)
    print(f"{out}: {len(samples) / RATE:.2f} s, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
