"""Train the presenter's generator on the processor or one GPU.

    python -m tools.presenter.train PACK.npz SPEECH.npz RUN_DIR [--device cuda] [--width full]

Resumable: call it again with the same arguments; a folder belongs to one training. Writes RUN_DIR/generator.pth, the
averaged weights. With ``--base`` it goes on from a checkpoint of another run, for example when the audio encoder was
replaced and the ear must learn anew:

    python -m tools.presenter.train PACK.npz SPEECH.npz RUN_DIR --base OLD/speak320.pth --steps listen=700 speak320=1500

or from the exported generator of an avatar (``--base NAME.avatar/checkpoint/model_fast.onnx``).

``--checks N`` looks at held-out time before it begins and N times in each phase that speaks, and ends a phase that has
stopped getting better: four looks in a row no higher than the best one. The weights are always those of the end; no
look chooses among them.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from lipwright.contract import WINDOW_PAST, WINDOW_SIZE
from lipwright.models.generator import Generator
from lipwright.training.base import exported_weights, go_on
from lipwright.training.copying import begin_by_copying
from lipwright.training.data import Sampler, full_windows
from lipwright.training.folded import amplify, fold, unfolded
from lipwright.training.heap import keep_pages
from lipwright.training.held_out import HeldOut, draw
from lipwright.training.lessons import ear, learner, lesson
from lipwright.training.loop import Checks, Phase, Student, Trainer, save_weights
from lipwright.training.pack import Pack
from lipwright.training.plan import RATES, without_norms
from lipwright.training.speech import Speech, SpeechSampler
from tools.running import claim, digest_of, in_a_sentence

log = logging.getLogger("train")

#: Steps that two processor cores make in about an hour; a GPU takes ``--scale 10`` in less.
PHASES = (
    Phase("draw", size=160, batch=8, steps=700, rate=RATES["draw"]),
    Phase("listen", size=0, batch=64, steps=500, rate=RATES["listen"]),
    Phase("speak160", size=160, batch=8, steps=1100, rate=RATES["speak160"]),
    Phase("speak320", size=320, batch=4, steps=1200, rate=RATES["speak320"]),
)

#: A mouth whose code changes less than this in a whole window rests; so many such windows are listened to.
_STILL, _RESTS = 1e-3, 64
#: Held-out frames that a look is of, spread over all there are.
_LOOKED_AT = 96


def plan(scale: float, steps: list[str]) -> list[Phase]:
    """All phases scaled, or those named in ``steps`` (PHASE=N) with N steps."""
    if not steps:
        return [phase.scaled(scale) for phase in PHASES]
    wanted = {name: int(count) for name, count in (part.split("=") for part in steps)}
    return [replace(phase, steps=wanted[phase.name]) for phase in PHASES if phase.name in wanted]


def begin_from(student: Student, base: Path, voices: SpeechSampler) -> None:
    """Go on without batch norms from a checkpoint's averaged weights, not its optimizer, or from an exported generator.

    A checkpoint of a training that itself began from a base has no norms any more.
    """
    if base.suffix == ".onnx":
        go_on(student, exported_weights(base), voices)
        return
    average = torch.load(base, map_location="cpu", weights_only=True)["average"]
    if not any(name.endswith(".running_mean") for name in average):
        fold(student.generator)
    student.load_state_dict(average)
    fold(student.generator)


def what_rest_sounds_like(generator: Generator, pack: Pack) -> Tensor:
    """[C] what the ear says of the stretches in which the mouth stays as it is in the first frame: nobody speaks."""
    calm = np.ptp(sliding_window_view(pack.mouth, WINDOW_SIZE, axis=0), axis=-1).max(axis=-1) < _STILL
    frames = np.flatnonzero(calm)[:_RESTS] + WINDOW_PAST
    heard = full_windows(pack.features[0], frames)
    with torch.inference_mode():
        said: Tensor = generator.audio_model(torch.from_numpy(heard))
    return said.mean(dim=(0, 2, 3))


def finished(generator: Generator, pack: Pack, gain: float) -> Generator:
    """The generator as it is shipped: its lips move ``gain`` times as far from rest."""
    generator = copy.deepcopy(generator).cpu().eval()
    fold(generator)
    amplify(generator, what_rest_sounds_like(generator, pack), gain)
    return unfolded(generator)


Watch = Callable[[Phase], Checks[Student]]
"""How a phase that speaks is looked at."""


def watching(pack: Pack, device: str, looks: int) -> Watch:
    """So many looks a phase at the likeness in held-out mouth boxes: PSNR of the averaged weights, dB."""
    frames = pack.held_frames()
    held = HeldOut(pack, frames[:: math.ceil(len(frames) / _LOOKED_AT)])

    def watch(phase: Phase) -> Checks[Student]:
        # at another size than it learns at a generator does not know what it sees
        def likeness(average: Student) -> float:
            return held.score(draw(average.generator, held, torch.device(device), size=phase.size)).psnr

        return Checks(math.ceil(phase.steps / looks), likeness)

    return watch


def run(
    trainer: Trainer[Student],
    phases: list[Phase],
    sampler: Sampler,
    speech: SpeechSampler,
    has_ear: bool,
    watch: Watch | None = None,
) -> None:
    """All phases, one after the other; an ear that can hear already is held back while the picture half learns.

    Norms are folded away before it speaks, as in everybody's training.
    """
    for phase in phases:
        slow = ear if has_ear and phase.speaks else None
        if phase.speaks:
            trainer.fold()
        checks = watch(phase) if watch and phase.speaks else None
        if checks:
            log.info("%s held-out score before: %.4f", phase.name, checks.score(trainer.average))
        loss = lesson(phase, sampler, speech, trainer.device)
        trainer.run(phase, loss, learner(phase), checks, slow)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pack", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", default="full", choices=["full", "mobile"])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps of every phase")
    parser.add_argument("--steps", nargs="*", default=[], metavar="PHASE=N", help="phases to run, others are left out")
    parser.add_argument("--base", type=Path, help="checkpoint of another run, or exported generator, to begin from")
    parser.add_argument("--checks", type=int, default=0, help="looks at held-out time in each phase that speaks")
    parser.add_argument("--gain", type=float, default=1.0, help="how much further than learnt the lips move from rest")
    return parser.parse_args()


def main() -> None:
    """Run all phases and write the weights."""
    options = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with in_a_sentence():
        train(options)


def train(options: argparse.Namespace) -> None:
    """What the command line asks for.

    Raises:
        LipwrightError: the folder belongs to a training of something else, or a file cannot be read.
    """
    torch.manual_seed(0)
    keep_pages()
    phases = plan(options.scale, options.steps)
    asked = {"pack": digest_of(options.pack), "speech": digest_of(options.speech), "width": options.width}
    asked |= {"base": options.base and digest_of(options.base), "phases": [asdict(phase) for phase in phases]}
    claim(options.out, asked)
    pack = Pack.load(options.pack)
    speech = SpeechSampler(Speech.load(options.speech), seed=2)
    student, sampler = Student(pack, options.width), Sampler(pack, pack.training_frames(), seed=1)
    if options.base:
        begin_from(student, options.base, speech)
    else:
        begin_by_copying(student, sampler)
    phases = list(without_norms(phases, from_whole=options.base is not None))
    trainer = Trainer(student, options.out, options.device)
    watch = watching(pack, options.device, options.checks) if options.checks else None
    run(trainer, phases, sampler, speech, options.base is not None, watch)
    save_weights(finished(trainer.average.generator, pack, options.gain), options.out / "generator.pth")
    record = {
        "width": options.width,
        "base": options.base and str(options.base),
        "gain": options.gain,
        "phases": [asdict(phase) for phase in phases],
        "likeness_db": {name: record.scores for name, record in trainer.records.items() if record.scores},
    }
    (options.out / "training.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
