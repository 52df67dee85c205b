"""What drawing takes on an NVIDIA card: milliseconds, memory and parity in every precision, for one frame and 16.

Drawing is all of a frame between cut and paste: masking, scaling and rounding too, as a render asks for it.

PYTHONPATH=src python -m tools.gpu_bench [AVATAR] [-o FILE.json]

Needs numpy, torch and OpenCV alone (and onnx, where the avatar has no .pth), so that it runs from the working tree on a
machine on which nothing else is installed. Where lipwright is installed, `lipwright bench` measures the same runtime
and whole films. Exit code 1: a precision draws something else than f32 on the processor.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from lipwright import patch
from lipwright.audio.window import feature_windows
from lipwright.contract import FloatArray, Rect, UInt8Array
from lipwright.runtimes import Precision, Redrawn, open_runtime, redraw
from lipwright.runtimes.torch import TorchRuntime, library

PRESENTER = Path("src/lipwright/data/presenter.avatar")
#: Files of an avatar that this reads by itself: its manifest needs pydantic.
MODEL, FILM, RECTS, FEATURES = "checkpoint/model_best.onnx", "full_body_video.mp4", "roi_bounds.npy", "aud_ave.npy"
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "f16")
BATCHES = (1, 16)
#: Calls measured, and before those not measured.
CALLS, WARM_UP = 200, 20
#: Levels (of 255) beyond which a value counts as off; the share that may be; levels off on average, as `check` allows.
OFF, MOST_OFF, MEAN_OFF = 2, 0.001, 0.5


@dataclass(frozen=True)
class Row:
    """One precision and batch size; milliseconds are those of a frame."""

    precision: str
    batch: int
    opening_s: float
    """Until the first answer."""
    median_ms: float
    p99_ms: float
    """From ROIs and windows to ROIs, all in ordinary memory."""
    card_ms: float | None
    """On the card alone; None without one."""
    card_mb: float | None
    """Most memory that torch took of the card, in units of 10^6 bytes."""
    max_off: float
    mean_off: float
    share_off: float
    """Against f32 on the processor, levels; the last: the share of values off by more than 2 levels."""

    @property
    def good(self) -> bool:
        """Whether it draws what f32 draws."""
        return self.mean_off <= MEAN_OFF and self.share_off <= MOST_OFF


def questions(avatar: Path, count: int) -> tuple[UInt8Array, FloatArray]:
    """ROIs [count, 320, 320, 3] and windows [count, 32, 16, 16] of an avatar's first usable frames and features."""
    windows = feature_windows(np.load(avatar / FEATURES))
    film = cv2.VideoCapture(str(avatar / FILM))
    rois: list[UInt8Array] = []
    for row in np.load(avatar / RECTS):
        seen, picture = film.read()
        if not seen or len(rois) == count:
            break
        rect = Rect(*map(int, row))
        if rect.usable:
            rois.append(patch.roi(patch.crop(np.asarray(picture, np.uint8), rect, "auto")))
    if not rois or not len(windows):
        sys.exit(f"{avatar} has no frame with a face, or no features: name another avatar")
    return np.resize(np.stack(rois), (count, *rois[0].shape)), np.resize(windows, (count, *windows.shape[1:]))


def milliseconds(call: Callable[[], object], calls: int) -> list[float]:
    """Of each of ``calls`` calls, after some more."""
    for _ in range(min(WARM_UP, calls)):
        call()
    marks = [time.perf_counter()]
    for _ in range(calls):
        call()
        marks.append(time.perf_counter())
    return [1000 * (after - before) for before, after in pairwise(marks)]


def on_the_card(runtime: TorchRuntime, batch: int, calls: int) -> float | None:
    """Milliseconds of a call between two marks on the card itself."""
    key = ("redraw", batch)
    if key not in runtime.recorded:
        return None
    torch = library()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        runtime.recorded[key].replay()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / calls


def measure(model: Path, provider: str, precision: Precision, batch: int, calls: int, asked: Asked) -> Row:
    """One row of the table."""
    torch = library()
    cuda = provider == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    runtime = open_runtime(model, "generator", f"torch:{provider}", precision)
    assert isinstance(runtime, TorchRuntime)
    rois, windows = asked.rois[:batch], asked.windows[:batch]
    redraw(runtime, rois, windows)
    opening = time.perf_counter() - began
    times = [each / batch for each in milliseconds(lambda: redraw(runtime, rois, windows), calls)]
    alone = on_the_card(runtime, batch, calls)
    steps = range(0, len(asked.rois), batch)
    drawn = Redrawn.joined([redraw(runtime, asked.rois[i : i + batch], asked.windows[i : i + batch]) for i in steps])
    off = np.abs(drawn.rois.astype(np.int16) - asked.expected)
    off[~drawn.finite] = 255
    return Row(
        precision=precision,
        batch=batch,
        opening_s=opening,
        median_ms=float(np.median(times)),
        p99_ms=float(np.percentile(times, 99)),
        card_ms=None if alone is None else alone / batch,
        card_mb=torch.cuda.max_memory_reserved() / 1e6 if cuda else None,
        max_off=float(off.max()),
        mean_off=float(off.mean()),
        share_off=float((off > OFF).mean()),
    )


@dataclass(frozen=True)
class Asked:
    """What every row draws, and what f32 on the processor draws of it."""

    rois: UInt8Array
    windows: FloatArray
    expected: UInt8Array


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    head = [
        "torch",
        "frames a call",
        "ms a frame",
        "p99",
        "card alone",
        "card memory",
        "mean off",
        "max off",
        "> 2/255",
    ]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in rows:
        alone = "" if row.card_ms is None else f"{row.card_ms:.3f}"
        memory = "" if row.card_mb is None else f"{row.card_mb:.0f} MB"
        parity = [f"{row.mean_off:.3f}/255", f"{row.max_off:.0f}/255", f"{row.share_off:.4%}"]
        times = [f"{row.median_ms:.3f}", f"{row.p99_ms:.3f}", alone]
        lines.append([row.precision, str(row.batch), *times, memory, *parity])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def stamp(provider: str) -> str:
    """Versions and device."""
    torch = library()
    device = torch.cuda.get_device_name() if provider == "cuda" else f"{torch.get_num_threads()} threads"
    libraries = (
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, numpy {np.__version__}, OpenCV {cv2.__version__}"
    )
    return f"{device}, {libraries}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write it as JSON where that is wanted; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("avatar", type=Path, nargs="?", default=PRESENTER)
    parser.add_argument("-o", "--out", type=Path, help="JSON file")
    parser.add_argument("--model", type=Path, help=".onnx or .pth; else the avatar's own")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--calls", type=int, default=CALLS)
    given = parser.parse_args(arguments)
    model = given.model or given.avatar / MODEL
    rois, windows = questions(given.avatar, max(given.batches))
    plain = open_runtime(model, "generator", "torch:cpu", "f32")
    one_by_one = [redraw(plain, rois[i : i + 1], windows[i : i + 1]).rois for i in range(len(rois))]
    asked = Asked(rois, windows, np.concatenate(one_by_one))
    print(stamp(given.provider))
    wanted = [(precision, batch) for precision in given.precisions for batch in given.batches]
    rows = [measure(model, given.provider, precision, batch, given.calls, asked) for precision, batch in wanted]
    print(table(rows))
    if given.out:
        given.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    broken = [f"{row.precision}, {row.batch}" for row in rows if not row.good]
    if broken:
        print(f"draws something else than f32 on the processor: {'; '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
