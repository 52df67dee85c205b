"""Does a base pay? Quality on a person's held-out time against the number of samples, with and without it.

    python -m tools.presenter.compare_base PACK.npz BASE --samples 2000 8000 32000 --out COMPARE/

PACK is what ``lipwright train AVATAR --pack`` writes, BASE a generator (.pth, .onnx or an avatar). Each number of
samples is a training of its own, from its first step to its last, once from scratch, as far as drawing goes (with the
ear that the pack brings, if any), and once from the base; both see as many samples. Resumable. Prints a table and
writes COMPARE/compare.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lipwright.durable import write_text
from lipwright.errors import LipwrightError
from lipwright.models.generator import Width
from lipwright.training.base import base_width, ear_of, exported_weights, whole_weights
from lipwright.training.loop import Phase
from lipwright.training.pack import Pack
from lipwright.training.person import Progress, train_person
from lipwright.training.plan import CHECKED_FRAMES, Plan, without, without_norms
from tools.presenter.train import PHASES
from tools.running import claim, digest_of, in_a_sentence

log = logging.getLogger("compare")

STARTS = ("scratch", "base")
MEASURES = ("psnr", "ssim", "lip_gap_r", "sharpness")
_BESIDE = ("nearest pose", "mean picture", "truth")
#: Shares of the samples; the other phases need no pictures and are the same for every number of samples.
_SHARES = {"draw": 0.25, "speak160": 0.40, "speak320": 0.35}
_UNSEEN_STEPS, _EXPERT = 600, Phase("expert", size=0, batch=64, steps=0, rate=2e-3)
_CHECKS = 4
#: Steps are counted here and not minutes: no step may seem too slow. Seconds.
_UNLIMITED = 1e5
#: What a step costs beside one of 320 x 320, for the progress.
_COSTS = {"expert": 0.2, "draw": 0.85, "listen": 0.4, "speak160": 0.85, "speak320": 1.0}


@dataclass(frozen=True)
class Row:
    """One training and what came of it on held-out time."""

    start: str
    samples: int
    began_from: str
    """``none``, ``ear`` or ``whole generator``."""
    psnr: float | None
    ssim: float | None
    lip_gap_r: float | None
    sharpness: float | None


def plan_for(samples: int, width: Width, held: int, phases: Sequence[Phase], unseen_steps: int = _UNSEEN_STEPS) -> Plan:
    """A training that looks at ``samples`` pictures.

    Args:
        samples: pictures, over all phases that draw.
        width: of the generator.
        held: how many held-out frames there are.
        phases: the phases in their order, whatever their steps are.
        unseen_steps: steps of what needs no pictures: of listening, and of the judge of lip sync.
    """
    shares = {phase.name: _SHARES[phase.name] for phase in phases if phase.size}
    steps = {name: max(round(samples * share / sum(shares.values())), 1) for name, share in shares.items()}
    fitted = [replace(p, steps=math.ceil(steps[p.name] / p.batch) if p.name in steps else unseen_steps) for p in phases]
    return Plan(
        width=width,
        expert=replace(_EXPERT, steps=unseen_steps),
        phases=tuple(fitted),
        costs={name: _UNLIMITED * cost for name, cost in _COSTS.items()},
        checks=_CHECKS,
        checked_frames=min(CHECKED_FRAMES, held),
        minutes=0,
        checkpoint_seconds=120,
        threads=torch.get_num_threads(),
        folded=True,
    )


def generator_file(base: Path) -> Path:
    """The file of a base: itself, or the generator of an avatar.

    Raises:
        LipwrightError: there is none.
    """
    if not base.is_dir():
        return base
    from lipwright.avatar import Avatar  # a bare machine compares without what avatars need

    found = Avatar.open(base).generator
    if found is None:
        raise LipwrightError(f"{base} has no generator: give one that was trained")
    return found


def base_weights(file: Path) -> Mapping[str, npt.NDArray[Any]]:
    """Its weights, by name."""
    return whole_weights(file) if file.suffix == ".pth" else exported_weights(file)


def compare(
    pack: Pack,
    base: Mapping[str, npt.NDArray[Any]],
    samples: Sequence[int],
    out: Path,
    device: str,
    plan: Callable[[int, Width, int, Sequence[Phase]], Plan] = plan_for,
) -> tuple[list[Row], dict[str, Any]]:
    """Train for every number of samples from both starts; what is done already is read.

    Returns:
        The rows, and the scores of what costs nothing and of the truth.

    Raises:
        LipwrightError: the pack is too little to learn from.
    """
    width, rows, beside = base_width(base), [], dict[str, Any]()
    for count in sorted(samples):
        for start in STARTS:
            begun = replace(pack, base=ear_of(pack.base) if start == "scratch" else base)
            phases = PHASES if start == "scratch" else without(PHASES, "draw")
            asked = plan(count, width, len(pack.held_frames()), without_norms(phases, from_whole=start == "base"))
            scores = train_person(
                begun, out / f"{start}{count}", device=device, plan=asked, progress=_Teller(f"{start} {count}")
            )
            own = scores["scores"]["own sound"]
            rows.append(Row(start, count, scores["base"], **{name: own[name] for name in MEASURES}))
            beside = {name: scores["scores"][name] for name in _BESIDE}
            log.info("%s, %d samples: %s", start, count, own)
    return rows, beside


class _Teller:
    """Says how far a training is, ten times."""

    def __init__(self, name: str) -> None:
        self._name, self._told = name, -1

    def __call__(self, progress: Progress) -> None:
        tenth = int(10 * progress.done / progress.total)
        if tenth > self._told:
            self._told = tenth
            log.info("%s: %d %%, %s", self._name, 10 * tenth, progress.step)


def needed(rows: Sequence[Row], measure: str) -> dict[str, float | bool | None]:
    """How many samples from the base do as well as the most samples from scratch.

    Between two numbers of samples the logarithm is interpolated.

    Returns:
        ``scratch`` samples and the ``score`` they reach; ``base`` samples that reach it (None: not reached) and their
        ``share``; ``at_most``: the fewest that were tried reach it already.
    """
    scratch, base = ([r for r in rows if r.start == start and getattr(r, measure) is not None] for start in STARTS)
    if not scratch or not base:
        return {"scratch": None, "score": None, "base": None, "share": None, "at_most": False}
    most = max(scratch, key=lambda row: row.samples)
    aim, points = float(getattr(most, measure)), sorted((r.samples, float(getattr(r, measure))) for r in base)
    found: float | None = None
    if points[0][1] >= aim:
        found = points[0][0]
    for (a, low), (b, high) in pairwise(points):
        if found is None and high >= aim:
            found = float(np.exp(np.interp(aim, [low, high], np.log([a, b]))))
    share = None if found is None else found / most.samples
    return {"scratch": most.samples, "score": aim, "base": found, "share": share, "at_most": points[0][1] >= aim}


def table(rows: Sequence[Row], beside: Mapping[str, Mapping[str, float | None]]) -> str:
    """The rows, and below them what costs nothing, in Markdown."""
    lines = ["| start | samples | PSNR dB | SSIM | lip-gap r | sharpness |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.start} ({r.began_from}) | {r.samples} | " + _cells(asdict(r)) for r in rows]
    lines += [f"| {name} | - | " + _cells(score) for name, score in beside.items()]
    return "\n".join(lines)


def _cells(values: Mapping[str, Any]) -> str:
    texts = ["-" if values[m] is None else f"{values[m]:.{1 if m == 'psnr' else 3}f}" for m in MEASURES]
    return " | ".join(texts) + " |"


def verdict(measure: str, found: Mapping[str, float | bool | None]) -> str:
    """One sentence about one measure."""
    if found["scratch"] is None:
        return f"{measure}: not measurable on this film"
    said = f"{measure} {found['score']:.3f}, from scratch with {found['scratch']} samples: "
    if found["base"] is None:
        return said + "not reached from the base"
    at_most = "at most " if found["at_most"] else ""
    return said + f"from the base with {at_most}{found['base']:.0f}, {at_most}{found['share']:.2f} of them"


def _run(options: argparse.Namespace) -> None:
    file = generator_file(options.base)
    asked: dict[str, Any] = {"pack": digest_of(options.pack), "base": digest_of(file), "device": options.device}
    asked |= {"unseen_steps": options.unseen_steps}
    claim(options.out, asked)
    plan = partial(plan_for, unseen_steps=options.unseen_steps)
    pack, base = Pack.load(options.pack), base_weights(file)
    rows, beside = compare(pack, base, options.samples, options.out, options.device, plan)
    found = {measure: needed(rows, measure) for measure in MEASURES}
    result = asked | {"rows": [asdict(row) for row in rows], "beside": beside, "needed": found}
    write_text(options.out / "compare.json", json.dumps(result, indent=1))
    print("\n".join([table(rows, beside), "", *(verdict(measure, each) for measure, each in found.items())]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pack", type=Path, help="what `lipwright train AVATAR --pack` wrote")
    parser.add_argument("base", type=Path, help="generator.pth, generator.onnx or an avatar")
    parser.add_argument("--samples", type=int, nargs="+", default=[2_000, 8_000, 32_000])
    parser.add_argument("--unseen-steps", type=int, default=_UNSEEN_STEPS, help="steps of what needs no pictures")
    parser.add_argument("--out", type=Path, default=Path("COMPARE"), help="folder for the trainings and compare.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with in_a_sentence():
        _run(options)


if __name__ == "__main__":
    main()
