"""Train one generator on the packs of many people: what a new person's training starts from.

    python -m tools.presenter.train_base PACKS/*.npz SPEECH.npz RUN/ --avatar base.avatar

The last two packs are strangers: never learnt from, only scored. Resumable: call it again with the same arguments.
Writes RUN/generator.pth (averaged weights), RUN/base.json (what was done, and the strangers' scores) and, with
``--avatar``, the built-in presenter with this generator, which is what ``lipwright train --base`` takes.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from lipwright.durable import write_text
from lipwright.errors import LipwrightError
from lipwright.models.generator import Generator, Width
from lipwright.training.copying import begin_by_copying
from lipwright.training.held_out import HeldOut, Score, draw
from lipwright.training.lessons import learner, lesson
from lipwright.training.loop import MouthMap, Phase, Student, Trainer, save_weights
from lipwright.training.pack import Pack
from lipwright.training.plan import RATES
from lipwright.training.speech import Speech, SpeechSampler
from tools.presenter.crowd import CrowdSampler, mouth_scale, wholly
from tools.running import claim, digest_of, in_a_sentence

log = logging.getLogger("base")

#: For a graphics card. How long they take there has not been measured; ``--scale`` makes all of them longer or shorter.
PHASES = (
    Phase("draw", size=160, batch=32, steps=6_000, rate=RATES["draw"]),
    Phase("listen", size=0, batch=128, steps=4_000, rate=RATES["listen"]),
    Phase("speak160", size=160, batch=32, steps=10_000, rate=RATES["speak160"]),
    Phase("speak320", size=320, batch=16, steps=10_000, rate=RATES["speak320"]),
)
WEIGHTS, FIGURES = "generator.pth", "base.json"
_ORIGIN = "trained by tools/presenter/train_base.py on rendered people"


def crowd_student(packs: Sequence[Pack], width: Width) -> Student:
    """A student whose mouth map is scaled by the mouths of all people."""
    student = Student(packs[0], width)
    student.mouth_map = MouthMap(*mouth_scale(packs), width)
    return student


def train_base(
    packs: Sequence[Pack], speech: Speech, run: Path, phases: Sequence[Phase], width: Width, device: str
) -> Generator:
    """Train on all of ``packs``, with nothing held out; called again after it was stopped, it goes on.

    Args:
        packs: of people, whose mouth codes have the same channels as the speech's.
        speech: what the ear learns from.
        run: folder of the checkpoints; gets ``generator.pth``.
        phases: ``draw``, ``listen`` and those that begin with ``speak``.
        width: of the generator.
        device: ``cpu`` or ``cuda``.

    Returns:
        The averaged weights, in eval mode.

    Raises:
        LipwrightError: the packs do not fit together.
    """
    torch.manual_seed(0)
    sampler, voices = CrowdSampler(packs, seed=1), SpeechSampler(speech, seed=2)
    student = crowd_student(packs, width)
    begin_by_copying(student, sampler)
    trainer = Trainer(student, run, device)
    for phase in phases:
        trainer.run(phase, lesson(phase, sampler, voices, trainer.device), learner(phase))
    save_weights(trainer.average.generator, run / WEIGHTS)
    return trainer.average.generator


def strangers_scores(
    generator: Generator, strangers: Sequence[Pack], device: str
) -> dict[str, dict[str, float | None]]:
    """Means over people whom the generator never saw, on the held-out time of each, beside what costs nothing."""
    each: dict[str, list[Score]] = {}
    for pack in strangers:
        held = HeldOut(pack)
        found = {"base": held.score(draw(generator, held, torch.device(device))), **held.baselines()}
        for name, score in found.items():
            each.setdefault(name, []).append(score)
    return {name: _mean(scores) for name, scores in each.items()}


def _mean(scores: Sequence[Score]) -> dict[str, float | None]:
    rows = [asdict(score) for score in scores]
    return Score(**{name: float(np.mean([row[name] for row in rows])) for name in rows[0]}).figures()


def save_avatar(weights: Path, out: Path) -> None:
    """Write the built-in presenter with another generator, exported and proven: what ``lipwright train --base`` takes.

    Raises:
        LipwrightError: the built-in presenter is missing, or torch and ONNX differ too much.
    """
    # av, onnx and onnxruntime: a bare machine trains without them
    from lipwright.avatar import FAST_GENERATOR, Avatar, ModelRecord, builtin_avatar
    from lipwright.avatar import WEIGHTS as PLACE
    from lipwright.export_avatar import export_avatar

    carrier = Avatar.open(builtin_avatar())
    record = ModelRecord(file=PLACE, licence="Apache-2.0", origin=_ORIGIN)
    models = carrier.manifest.models.model_copy(update={"generator_fast": None, "generator_weights": record})
    manifest = carrier.manifest.changed(name=out.stem, models=models)
    avatar = export_avatar(
        carrier.save(out, manifest=manifest, contents={PLACE: weights, FAST_GENERATOR: None}, replace=True)
    )
    kept = avatar.manifest.models.model_copy(update={"generator_weights": None})
    avatar.save(manifest=avatar.manifest.changed(models=kept), contents={PLACE: None})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("packs", type=Path, nargs="+", metavar="PACK.npz", help="made by film_people")
    parser.add_argument("speech", type=Path, help="made by `tools.speech.pack_speech features`")
    parser.add_argument("run", type=Path, help="folder for checkpoints and results")
    parser.add_argument("--strangers", type=int, default=2, help="so many packs, the last, are only scored")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", default="full", choices=["full", "mobile"])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps of every phase")
    parser.add_argument("--avatar", type=Path, help="also write the presenter with this generator: for --base")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> None:
    count = len(options.packs) - options.strangers
    if count < 1:
        raise LipwrightError(
            f"{len(options.packs)} packs with {options.strangers} strangers leave nobody to learn from"
        )
    phases = [phase.scaled(options.scale) for phase in PHASES]
    names = [path.name for path in options.packs]
    asked = {"packs": names[:count], "strangers": names[count:], "speech": options.speech.name, "width": options.width}
    asked |= {"phases": [asdict(phase) for phase in phases]}
    claim(options.run, asked | {"files": [digest_of(path) for path in (*options.packs, options.speech)]})
    packs = [Pack.load(path) for path in options.packs]
    log.info("%d people with %d frames", count, sum(len(pack.rois) for pack in packs[:count]))
    everybody = [wholly(pack) for pack in packs[:count]]
    speech = Speech.load(options.speech)
    generator = train_base(everybody, speech, options.run, phases, options.width, options.device)
    scores = strangers_scores(generator, packs[count:], options.device)
    write_text(options.run / FIGURES, json.dumps(asked | {"torch": torch.__version__, "scores": scores}, indent=1))
    for name, score in scores.items():
        log.info("strangers, %s: %s", name, ", ".join(f"{key} {value}" for key, value in score.items()))
    if options.avatar:
        save_avatar(options.run / WEIGHTS, options.avatar)


def main() -> None:
    """Command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with in_a_sentence():
        _run(_options())


if __name__ == "__main__":
    main()
