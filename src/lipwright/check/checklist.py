"""The contract, gone through item by item as a model's author would by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lipwright.avatar import Avatar
from lipwright.check.findings import Finding
from lipwright.check.limits import (
    BATCH_APART,
    BLUE_SKIN,
    HEARS,
    LEVEL,
    RANGE_SLACK,
    RECT_STEP,
    SMALL_RECT,
    SWAP_NEARER,
)
from lipwright.contract import AUDIO_SHAPE, FEATURE_DIM, MASK_XYWH, ROI_SIZE, WINDOW_SIZE, FloatArray, TensorSpec
from lipwright.runtimes import Runtime
from lipwright.runtimes.base import NETWORKS, Kind
from lipwright.runtimes.onnx import library
from lipwright.trial import Question, generator_of

SECTION = "contract"
#: Frames that the questions about colours, range and hearing are asked about.
ASKED = 5
#: Of them so many in one call: every more of them costs hundreds of megabytes.
TOGETHER = 2


@dataclass(frozen=True)
class Subject:
    """What the checklist looks at."""

    avatar: Avatar
    asked: Sequence[Question]
    """At least one."""
    runtime: Runtime
    """The generator in the reference runtime."""

    @cached_property
    def few(self) -> list[Question]:
        """Some of the questions, evenly spread."""
        chosen = np.unique(np.linspace(0, len(self.asked) - 1, ASKED).astype(int))
        return [self.asked[k] for k in chosen]

    @cached_property
    def images(self) -> FloatArray:
        """[n, 6, 320, 320] inputs of ``few``."""
        return np.stack([question.image for question in self.few])

    @cached_property
    def windows(self) -> FloatArray:
        """[n, 32, 16, 16] of ``few``."""
        return np.stack([question.window for question in self.few])

    @cached_property
    def raw(self) -> FloatArray:
        """[n, 3, 320, 320] the answers, one call for each."""
        return np.concatenate([self.runtime.run(*question.inputs) for question in self.few])

    @cached_property
    def outputs(self) -> FloatArray:
        """The answers with 0 for what is no number, which is one item of the list and shall not spoil the others."""
        return np.nan_to_num(self.raw)

    def ask(self, images: FloatArray, windows: FloatArray) -> FloatArray:
        """Another answer, likewise."""
        return np.nan_to_num(self.runtime.run(images, windows))


def checklist(subject: Subject) -> Iterator[Finding]:
    """Every item; one that breaks does not stop the others."""
    yield from _package(subject.avatar)
    yield from _ports(subject.avatar)
    for item in (_numbers, _range, _colours, _halves, _hearing, _window, _batch, _same_twice):
        yield item(subject)
    yield from _rects(subject.avatar)


def _good(what: str, seen: str, limit: str, good: bool) -> Finding:
    return Finding.limited(SECTION, what, seen, limit, good)


# --- the package ----------------------------------------------------------------------------------------------------


def _package(avatar: Avatar) -> Iterator[Finding]:
    """Hashes, arrays, film, skin of the template; what is missing; mask and window of the manifest."""
    problems = avatar.verify()
    for problem in problems:
        yield _good("package", problem, "every file as described", False)
    if not problems:
        yield _good("package", f"{len(avatar.manifest.files)} files verified", "every file as described", True)
    for sentence in avatar.missing():
        yield Finding.note(SECTION, "missing", sentence)
    manifest = avatar.manifest
    yield _good("mask", str(manifest.mask), str(MASK_XYWH), tuple(manifest.mask) == MASK_XYWH)
    window = manifest.window
    length = window.past + 1 + window.future
    told = f"{window.past} + 1 + {window.future} features, padded by {window.padding}"
    yield _good("window", told, f"{WINDOW_SIZE} features", length == WINDOW_SIZE)
    if avatar.features is not None:
        still = float(avatar.features.std(axis=0).max())
        what = f"float32 {list(avatar.features.shape)}, largest deviation in time {still:.2g}"
        yield _good("features of the template", what, f"[N, {FEATURE_DIM}], finite, not constant", still > 0)


def _ports(avatar: Avatar) -> Iterator[Finding]:
    """Names, shapes and types of both networks as their files say."""
    yield from _ports_of("generator", "generator", str(generator_of(avatar)))
    if avatar.encoder is not None:
        yield from _ports_of("audio encoder", "encoder", str(avatar.encoder))


def _ports_of(name: str, kind: Kind, model: str) -> Iterator[Finding]:
    session = library().InferenceSession(model, providers=["CPUExecutionProvider"])
    network = NETWORKS[kind]
    found = [*session.get_inputs(), *session.get_outputs()]
    wanted = [*network.inputs, network.output]
    yield _good(
        f"{name}: inputs and outputs",
        ", ".join(f"{port.name} {port.type} {list(port.shape)}" for port in found),
        f"{', '.join(f'{spec.name} {list(spec.shape[1:])}' for spec in wanted)} behind a batch, told apart by shape",
        all(any(_fits(port, spec) for port in found) for spec in wanted),
    )
    names = [spec.name for spec in wanted]
    if [port.name for port in found] != names:
        told = f"{', '.join(port.name for port in found)} instead of {', '.join(names)}: told apart by shape"
        yield Finding.note(SECTION, f"{name}: names", told)
    fixed = {port.shape[0] for port in found if isinstance(port.shape[0], int)}
    if fixed:
        told = f"fixed to {', '.join(map(str, sorted(fixed)))}: export it with a free batch to draw several at once"
        yield Finding.note(SECTION, f"{name}: batch", told)


def _fits(port: Any, spec: TensorSpec) -> bool:
    """Whether a port of the file could be this tensor; words stand for free dimensions."""
    same_rank = len(port.shape) == len(spec.shape)
    pairs = zip(port.shape[1:], spec.shape[1:], strict=False)
    return same_rank and all(found == wanted or not isinstance(found, int) for found, wanted in pairs)


# --- what the generator does ----------------------------------------------------------------------------------------


def _numbers(subject: Subject) -> Finding:
    bad = int((~np.isfinite(subject.raw)).sum())
    return _good("output: NaN or infinite values", str(bad), "0", bad == 0)


def _range(subject: Subject) -> Finding:
    outputs = subject.raw[np.isfinite(subject.raw)]
    low, high = (float(outputs.min()), float(outputs.max())) if outputs.size else (np.nan, np.nan)
    inside = low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK
    good = bool(inside and high - low > LEVEL)
    seen = f"{low:.3g} .. {high:.3g}"
    hint = _range_hint(low, high)
    return _good("output: range", f"{seen}{': ' if hint else ''}{hint}", "0 .. 1, not one colour", good)


def _range_hint(low: float, high: float) -> str:
    if high > 2:
        return "it looks like 0..255: divide by 255 inside the network"
    if low < -RANGE_SLACK:
        return "it looks like -1..1 (tanh): end with a sigmoid, or (x + 1) / 2"
    return "" if high - low > LEVEL else "one colour everywhere"


def _distance(subject: Subject, outputs: FloatArray) -> float:
    """Mean difference of ``outputs`` from the person in the template; the mouth's own movement is a small part."""
    truth = subject.images[:, :3]
    return float(np.abs(outputs - truth).mean())


def _colours(subject: Subject) -> Finding:
    """Red and blue in the order of the template, and skin redder than blue."""
    straight, swapped = _distance(subject, subject.outputs), _distance(subject, subject.outputs[:, ::-1])
    blue, _, red = _middle(subject.outputs).mean(axis=(0, 2, 3))
    turned = swapped < SWAP_NEARER * straight
    blue_skin = bool(blue > BLUE_SKIN * red)
    seen = f"skin B {blue:.2f}, R {red:.2f}; {straight:.3f} from the template, red and blue exchanged {swapped:.3f}"
    if turned or blue_skin:
        seen += "; skin turned blue: the package is RGB, its network or its template must be BGR"
    return _good("colour order", seen, "BGR: redder than blue, nearer as it is", not (turned or blue_skin))


def _middle(outputs: FloatArray) -> FloatArray:
    """Nose and cheeks of [n, 3, 320, 320], where there is neither hair nor background."""
    rows, columns = slice(ROI_SIZE // 16, ROI_SIZE // 2), slice(ROI_SIZE // 4, 3 * ROI_SIZE // 4)
    return outputs[:, :, rows, columns]


def _halves(subject: Subject) -> Finding:
    """Reference first, masked ROI second: exchanged, the picture must not become better."""
    exchanged = np.concatenate([subject.images[:, 3:], subject.images[:, :3]], axis=1)
    pairs = zip(exchanged, subject.windows, strict=True)
    other = np.concatenate([subject.ask(image[None], window[None]) for image, window in pairs])
    straight, swapped = _distance(subject, subject.outputs), _distance(subject, other)
    seen = f"{straight:.3f} from the template, halves exchanged {swapped:.3f}"
    good = not swapped < SWAP_NEARER * straight
    return _good("halves of the input", seen, "reference first, masked ROI second", good)


def _hearing(subject: Subject) -> Finding:
    """The same frame drawn to other sounds."""
    image = subject.images[:1]
    drawn = [subject.ask(image, window[None])[0] for window in subject.windows]
    drawn.append(subject.ask(image, np.zeros((1, *AUDIO_SHAPE), np.float32))[0])
    apart = float(np.ptp(np.stack(drawn), axis=0).max())
    seen = f"one frame drawn to {len(drawn)} sounds differs by {apart / LEVEL:.3g}/255 at most"
    return _good("the sound drives the picture", seen, f">= {HEARS / LEVEL:g}/255", apart >= HEARS)


def _window(subject: Subject) -> Finding:
    """Which of the 16 features the picture depends on."""
    image, window = subject.images[:1], subject.windows[len(subject.windows) // 2]
    plain = subject.ask(image, window[None])
    moved = [_effect(subject, image, window, plain, feature) for feature in range(WINDOW_SIZE)]
    deaf = [feature for feature, effect in enumerate(moved) if not effect > 0]
    seen = f"all {WINDOW_SIZE} features move the picture" if not deaf else f"features {deaf} move nothing"
    return _good("features of the window", seen, f"all {WINDOW_SIZE} heard", not deaf)


def _effect(subject: Subject, image: FloatArray, window: FloatArray, plain: FloatArray, feature: int) -> float:
    """Largest change of the picture when one feature is moved by the spread of all."""
    features = window.reshape(WINDOW_SIZE, FEATURE_DIM).copy()
    features[feature] += max(float(features.std()), LEVEL)
    return float(np.abs(subject.ask(image, features.reshape(1, *AUDIO_SHAPE)) - plain).max())


def _batch(subject: Subject) -> Finding:
    """Several at once give what each gives alone."""
    together = subject.ask(subject.images[:TOGETHER], subject.windows[:TOGETHER])
    apart = float(np.abs(together - subject.outputs[:TOGETHER]).max())
    seen = f"{apart / LEVEL:.2g}/255 in a batch of {len(together)}"
    return _good("batch", seen, f"<= {BATCH_APART / LEVEL:g}/255 from one by one", apart <= BATCH_APART)


def _same_twice(subject: Subject) -> Finding:
    same = bool(np.array_equal(subject.ask(*subject.few[0].inputs)[0], subject.outputs[0]))
    return _good("asked twice", "the same" if same else "another answer", "the same to the bit", same)


# --- the template ---------------------------------------------------------------------------------------------------


def _rects(avatar: Avatar) -> Iterator[Finding]:
    rects = avatar.rects
    usable = rects[:, 0] >= 0
    share = f"{int(usable.sum())} of {len(rects)} frames can be redrawn"
    yield _good("rects: usable", share, "at least one", bool(usable.any()))
    side = rects[usable, 2] - rects[usable, 0]
    both = usable[1:] & usable[:-1] & ~_at_cuts(avatar)
    steps = np.abs(np.diff(rects, axis=0)).max(axis=1)[both] / np.maximum(side.min(initial=ROI_SIZE), 1)
    largest = float(steps.max(initial=0))
    yield _good("rects: steps", f"{largest:.3f} of the side at most", f"<= {RECT_STEP}", largest <= RECT_STEP)
    if side.size and side.min() < SMALL_RECT:
        told = f"{int(side.min())} pixels: smaller than {SMALL_RECT}, so the mouth is shown in less detail than drawn"
        yield Finding.note(SECTION, "rects: smallest", told)


def _at_cuts(avatar: Avatar) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """[N - 1] True where frame k and k + 1 lie in different segments."""
    cuts = np.zeros(max(avatar.frame_count - 1, 0), bool)
    for segment in avatar.manifest.segments:
        for border in (segment.start, segment.stop):
            if 0 < border < avatar.frame_count:
                cuts[border - 1] = True
    return cuts
