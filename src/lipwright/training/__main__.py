"""Train from one packed file: ``python -m lipwright.training PACK.npz RUN_DIR --minutes 30``.

Needs numpy, torch and OpenCV alone, and the folder that holds ``lipwright`` on the path (``PYTHONPATH=src``). Called
again after it was stopped, it goes on. Afterwards ``lipwright train AVATAR --trained RUN_DIR`` at home puts what came
of it into the avatar.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from lipwright.errors import LipwrightError
from lipwright.runtimes.torch import library
from lipwright.training.pack import Pack


def main() -> None:
    """Command line; exit code 1 and one line for anything a user can mend."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        torch = library()
        _train(_options("cuda" if torch.cuda.is_available() else "cpu"))
    except LipwrightError as error:
        sys.exit(f"lipwright: {error}")
    except OSError as error:
        sys.exit(f"lipwright: {error.filename or 'the disk'}: {error.strerror or error}")


def _options(device: str) -> argparse.Namespace:
    """What was asked for; ``device`` where none was named."""
    parser = argparse.ArgumentParser(prog="python -m lipwright.training", description="Train from one packed file.")
    parser.add_argument("pack", type=Path, help="what `lipwright train AVATAR --pack` wrote")
    parser.add_argument("run", type=Path, help="folder for checkpoints and results")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--device", default=device)
    parser.add_argument("--width", choices=["full", "mobile"], help="else the base's")
    parser.add_argument("--baselines", action="store_true", help="also train with plain L1: takes longer than the rest")
    parser.add_argument(
        "--others", type=Path, nargs="*", default=[], help="packs of other films: wrong sounds to tell apart"
    )
    parser.add_argument(
        "--held-out",
        type=float,
        metavar="SECONDS",
        help="put so much at the film's end aside, to score on, instead of a tenth; in a RUN of its own",
    )
    parser.add_argument("--parts", action="store_true", help="write the weights in parts of at most 16 MiB too")
    return parser.parse_args()


def _train(options: argparse.Namespace) -> None:
    # needs torch, whose absence is told before
    from lipwright.training.person import PLAIN, WEIGHTS, split, train_person

    pack = Pack.load(options.pack)
    train_person(
        pack if options.held_out is None else pack.with_held_out(options.held_out),
        options.run,
        minutes=options.minutes,
        device=options.device,
        width=options.width,
        baselines=options.baselines,
        others=[Pack.load(other).features[0] for other in options.others],
    )
    if options.parts:
        split(options.run / WEIGHTS)
    if options.parts and options.baselines:
        split(options.run / PLAIN)


if __name__ == "__main__":
    main()
