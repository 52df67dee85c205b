"""Write the scripts of a person's film and of its paired film.

    python -m tools.presenter.make_script head.npz SCRIPTS/ --person robin --seconds 96 --paired 24

SCRIPTS/robin.json, .npz and .wav: listening first (the template), then sentences. SCRIPTS/robin_paired.*: the same
head, eyes and light with the mouth and the sound of sentences that nothing here was taught with: what perfect
re-dubbing of the first film is.
Needs flite; rendering does not.
"""

from __future__ import annotations

import argparse
import wave
from dataclasses import replace
from pathlib import Path

from lipwright.contract import SAMPLE_RATE
from lipwright.errors import LipwrightError
from tools.presenter.animation import perform, redubbed
from tools.presenter.camera import Camera
from tools.presenter.figure import Figure
from tools.presenter.head import HeadModel
from tools.presenter.lens import Look
from tools.presenter.motion import Motion
from tools.presenter.person import PEOPLE
from tools.presenter.script import Script
from tools.presenter.talk import READERS, Talk, sentences, talk, unheard

#: Seconds of calm listening at the beginning: the template loop.
CALM = 10.0
#: The paired film begins to speak earlier.
_PAIRED_CALM = 1.0


def write_sound(path: Path, said: Talk) -> None:
    """Mono 16-bit WAV at 16 kHz."""
    part = path.with_suffix(".wav.part")
    with wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(said.samples.astype("<i2").tobytes())
    part.replace(path)


def script_of(name: str, seed: int, figure: Figure, motion: Motion, said: Talk) -> Script:
    """A script with the usual camera."""
    return Script(
        name=name,
        seed=seed,
        person=figure.person,
        camera=Camera(),
        look=Look(),
        channels=figure.channels,
        phones=tuple((p.symbol, p.start, p.end) for p in said.phones),
        text=said.text,
        **motion.tracks(),
    )


def make_scripts(head: Path, out: Path, person: str, seconds: float, paired: float, seed: int) -> list[Path]:
    """Write both scripts and their sounds; returns the two JSON files.

    Raises:
        LipwrightError: no such person or head model, too many seconds, or flite is missing.
    """
    if person not in PEOPLE:
        raise LipwrightError(f"there is no {person!r}: choose one of {', '.join(PEOPLE)}")
    figure = Figure(HeadModel.load(head), PEOPLE[person])
    first = talk(READERS[person], sentences(seed), CALM, seconds, seed)
    second = talk(READERS[person], unheard(seed), _PAIRED_CALM, paired, seed + 1)
    if second.frames > first.frames:
        raise LipwrightError(f"the paired film cannot be longer than the first: ask for --paired under {seconds:.0f}")
    motion = perform(figure, first.phones, first.frames, seed)
    other = redubbed(figure, motion, second.phones, second.frames)
    scripts = [
        (script_of(person, seed, figure, motion, first), first),
        (replace(script_of(f"{person}_paired", seed, figure, other, second), seed=seed + 1), second),
    ]
    paths = []
    for script, sound in scripts:
        paths.append(script.save(out))
        write_sound(out / f"{script.name}.wav", sound)
    return paths


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("head", type=Path, help="head model made by convert_head")
    parser.add_argument("out", type=Path, help="folder")
    parser.add_argument("--person", choices=sorted(PEOPLE), default="robin")
    parser.add_argument("--seconds", type=float, default=96)
    parser.add_argument("--paired", type=float, default=24, help="seconds of the paired film")
    parser.add_argument("--seed", type=int, default=21)
    options = parser.parse_args()
    for path in make_scripts(options.head, options.out, options.person, options.seconds, options.paired, options.seed):
        script = Script.load(path)
        print(f"{path}: {script.frames} frames, {len(script.text)} sentences")


if __name__ == "__main__":
    main()
