"""Give the presenter's generator the face of another person, from a film of a minute or less.

    lipwright prepare FILM.mp4 -o NAME.avatar
    python -m tools.fit_person NAME.avatar generator.pth RUN/ --minutes 10
    lipwright render --avatar NAME.avatar speech.wav -o film.mp4

``generator.pth`` is what ``tools.presenter.train`` wrote. Resumable; the last tenth of the film is never seen.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from lipwright.avatar import Avatar
from lipwright.export_avatar import export_avatar
from lipwright.training.collect import collect
from lipwright.training.data import Sampler
from lipwright.training.loop import Phase, Student, Trainer, fitting, picture_half

#: For ten minutes on two processor cores.
PHASES = (
    Phase("fit160", size=160, batch=8, steps=480, rate=1e-3),
    Phase("fit320", size=320, batch=4, steps=240, rate=5e-4),
)


def main() -> None:
    """Fit, export, put the network into the avatar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10, help="on two processor cores; steps in proportion")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    avatar = Avatar.open(options.avatar)
    pack = collect(avatar)
    sampler = Sampler(pack, pack.training_frames(), seed=1)
    student = Student(pack)
    student.generator.load_state_dict(torch.load(options.base, weights_only=True))
    trainer = Trainer(student, options.out)
    for planned in PHASES:
        phase = planned.scaled(options.minutes / 10)
        trainer.run(phase, fitting(sampler, phase, trainer.device), picture_half)
    weights = options.out / "generator.pth"
    torch.save(trainer.average.generator.state_dict(), weights)
    licence = avatar.manifest.models.generator_weights
    avatar.put_model(
        "generator_weights",
        weights,
        licence=licence.licence if licence else "yours: made from your film and lipwright's presenter (Apache-2.0)",
        origin="tools/fit_person.py",
    )
    export_avatar(Avatar.open(options.avatar))


if __name__ == "__main__":
    main()
