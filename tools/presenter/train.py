"""Train the presenter's generator on the processor or one GPU.

    python -m tools.presenter.train PACK.npz SPEECH.npz RUN_DIR [--device cuda] [--width full]

Resumable: call it again with the same arguments. Writes RUN_DIR/generator.pth, the averaged weights.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch

from lipwright.training.data import Sampler
from lipwright.training.loop import Phase, Student, Trainer, drawing, listening, speaking
from lipwright.training.pack import Pack
from lipwright.training.speech import Speech, SpeechSampler

log = logging.getLogger("train")

#: Steps that two processor cores make in about an hour; a GPU takes ``--scale 10`` in less.
PHASES = (
    Phase("draw", size=160, batch=8, steps=700, rate=1.5e-3),
    Phase("listen", size=0, batch=64, steps=500, rate=1e-3),
    Phase("speak160", size=160, batch=8, steps=1100, rate=8e-4),
    Phase("speak320", size=320, batch=4, steps=1200, rate=6e-4),
)


def main() -> None:
    """Run all phases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pack", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", default="full", choices=["full", "mobile"])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps of every phase")
    parser.add_argument("--only", nargs="*", help="phases to run, by name; the others are left out")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    pack = Pack.load(options.pack)
    sampler = Sampler(pack, pack.training_frames(), seed=1)
    speech = SpeechSampler(Speech.load(options.speech), seed=2)
    trainer = Trainer(Student(pack, options.width), options.out, options.device)
    for planned in PHASES:
        if options.only and planned.name not in options.only:
            continue
        phase = planned.scaled(options.scale)
        if phase.name == "draw":
            trainer.run(phase, drawing(sampler, phase, trainer.device), lambda student: student)
        elif phase.name == "listen":
            ear = listening(speech, phase, trainer.device)
            trainer.run(phase, ear, lambda student: student.generator.audio_model)
        else:
            both = speaking(sampler, speech, phase, trainer.device)
            trainer.run(phase, both, lambda student: student.generator)
    part = options.out / "generator.part"
    torch.save(trainer.average.generator.state_dict(), part)
    part.replace(options.out / "generator.pth")
    record = {"width": options.width, "phases": [asdict(p.scaled(options.scale)) for p in PHASES]}
    (options.out / "training.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
