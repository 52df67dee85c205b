"""Measure an audio encoder: machine speech it never heard, real people, real films, bad sound, streaming.

    python -m tools.speech.measure ENCODER.pth HEADS.pth --pack PACK.npz --data DEV_DATA --corpus CORPUS --json OUT.json
    python -m tools.speech.measure ENCODER.onnx --data DEV_DATA

ENCODER.pth and HEADS.pth come from ``train_encoder.py``, PACK.npz from ``pack_speech.py``; ENCODER.onnx is what an
avatar ships, and is heard as a renderer hears it. Without HEADS.pth the rows that need it are left out. DEV_DATA is the
folder with ``speech/transcripts.tsv`` and ``video/``. With CORPUS, which may be left out, the truth itself is measured:
how far forced alignment agrees with the phone times of machine speech. ``docs/voice.md`` explains every figure. Needs
torch, and with HEADS.pth pocketsphinx.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lipwright.audio.decode import hear
from lipwright.audio.mel import MelStream, mel_slices
from lipwright.avatar import builtin_sound
from lipwright.contract import SAMPLE_RATE, FloatArray, frame_count
from lipwright.errors import LipwrightError
from lipwright.runtimes import Runtime, open_runtime
from lipwright.training import disguise
from lipwright.video import VideoReader
from tools.running import in_a_sentence
from tools.speech import articulation, lip_gap
from tools.speech.bootstrap import DoubleArray, drawn, in_blocks, interval
from tools.speech.corpus import Utterance, load
from tools.speech.lip_gap import Figure, IntArray
from tools.speech.phones import CHANNELS, CLASSES, CLOSED, REST, ROUNDED, Phone, Shape, shapes_of_cmu
from tools.speech.train_encoder import Ear, Heads, SpeechPack

log = logging.getLogger("measure")

# --- classes ----------------------------------------------------------------------------------------------------------
#: 14 shapes that a viewer tells apart; what one of them holds is easily taken for its neighbour, by eye and by ear.
COARSE = {
    "rest": "sil",
    "closed": "pbm bv",
    "lip on teeth": "fv",
    "tongue tip": "th tdn l",
    "hiss": "sz",
    "hush": "sh",
    "back": "kg hh",
    "r": "r er",
    "narrow": "w uw uh ue",
    "round": "ow ao oe",
    "open": "aa",
    "half open": "ah ax",
    "half spread": "ae eh",
    "spread": "iy ih y",
}
_COARSE_OF = np.array([next(k for k, names in enumerate(COARSE.values()) if c in names.split()) for c in CLASSES])
_GROUPS = {"closed": CLOSED, "rounded": ROUNDED, "rest": frozenset({REST})}
#: Pronouncing dictionaries write AH for both; the encoder's corpus tells them apart.
_ALIKE = (CLASSES.index("ax"), CLASSES.index("ah"))
FIGURES = ("accuracy", "coarse", *(f"{group}_{what}" for group in _GROUPS for what in ("recall", "precision")))

# --- films ------------------------------------------------------------------------------------------------------------
FILMS = ("ls_demo1.mp4", "ls_demo2.mp4")
#: Column of the lip gap among the tracks of a pack: the 13 channels, closure, then `articulation.Measures`.
GAP_TRACK = len(CHANNELS) + 1


class TranscriptError(ValueError):
    """A recording cannot be aligned with its transcript."""


# --- what the encoder hears -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ShippedEar:
    """An encoder in a runtime of the package, which hears one slice at a time, as a renderer does."""

    encoder: Runtime
    heads: Heads | None = None


AnyEar = Ear | ShippedEar


def load_ear(encoder: Path, heads: Path | None) -> AnyEar:
    """The encoder (.pth or .onnx) and, if there is such a file, its linear read-outs.

    A ``state_dict`` with heads is the network of the training; anything else is opened as a renderer opens it, in f32.
    """
    trained = None if heads is None else _load_heads(heads)
    if trained is None or encoder.suffix == ".onnx":
        return ShippedEar(open_runtime(encoder, "encoder", precision="f32", threads=1), trained)
    ear = Ear(trained.classes.out_features, trained.tracks.out_features)
    ear.encoder.load_state_dict(torch.load(encoder, weights_only=True))
    ear.heads.load_state_dict(trained.state_dict())
    return ear.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _load_heads(path: Path) -> Heads:
    state = torch.load(path, weights_only=True)
    heads = Heads(len(state["classes.weight"]), len(state["tracks.weight"]))
    heads.load_state_dict(state)
    return heads.eval()


@torch.inference_mode()
def features(ear: AnyEar, mel: FloatArray) -> FloatArray:
    """[n, 512] features of [n, 1, 80, 16] slices."""
    if isinstance(ear, ShippedEar):
        return np.concatenate([ear.encoder.run(mel[at : at + 1]) for at in range(len(mel))])
    chunks = (torch.from_numpy(mel[at : at + 256]) for at in range(0, len(mel), 256))
    parts = [ear.encoder(chunk.contiguous(memory_format=torch.channels_last)).float() for chunk in chunks]
    return np.asarray(torch.cat(parts).numpy())


@torch.inference_mode()
def read(head: nn.Linear, feature: FloatArray) -> FloatArray:
    """[n, k] what a linear read-out makes of [n, 512] features."""
    with torch.autocast("cpu", enabled=False):
        return np.asarray(head(torch.from_numpy(feature)).numpy())


def class_logits(heads: Heads, feature: FloatArray) -> FloatArray:
    """[n, 28] how probable each class is after each of [n, 512] features, before the softmax."""
    return read(heads.classes, feature)


def guessed(heads: Heads, feature: FloatArray) -> IntArray:
    """[n] the most probable class of each feature."""
    return np.asarray(class_logits(heads, feature).argmax(1))


def coarse_summed(logits: FloatArray) -> IntArray:
    """[n] the coarse group (place in COARSE) whose classes are most probable together, from logits [n, 28].

    The most probable class alone lets a group lose whose members share its votes.
    """
    raised = np.exp(logits - logits.max(1, keepdims=True))
    groups = np.stack([raised[:, group == _COARSE_OF].sum(1) for group in range(len(COARSE))], axis=1)
    return np.asarray(groups.argmax(1))


# --- frame accuracy ---------------------------------------------------------------------------------------------------
def tally(guess: npt.NDArray[np.integer], truth: npt.NDArray[np.integer]) -> DoubleArray:
    """[blocks, 12] counts of every second: frames, hits, coarse hits, and of each group hits, true and said frames."""
    columns = [np.ones(len(truth)), guess == truth, _COARSE_OF[guess] == _COARSE_OF[truth]]
    for group in _GROUPS.values():
        ids = [CLASSES.index(name) for name in sorted(group)]
        said, there = np.isin(guess, ids), np.isin(truth, ids)
        columns += [said & there, there, said]
    return in_blocks(np.stack(columns, axis=1))


def ratios(counts: DoubleArray) -> DoubleArray:
    """[..., 12] counts -> [..., 8] in the order of FIGURES; 0 where a group never occurs."""
    at_least_one = np.maximum(counts, 1)
    parts = [counts[..., 1:3] / at_least_one[..., :1]]
    for k in range(3, counts.shape[-1], 3):
        parts.append(counts[..., k : k + 1] / at_least_one[..., [k + 1, k + 2]])
    return np.concatenate(parts, axis=-1)


@dataclass(frozen=True)
class Score:
    """Frame figures of one stretch of sound, with block-bootstrap confidence intervals."""

    name: str
    frames: int
    value: Figure
    low: Figure
    high: Figure
    summed: Figure | None = None
    """value, low and high of the coarse accuracy by `coarse_summed`; None where there are answers without logits."""

    @classmethod
    def of(cls, name: str, counts: DoubleArray, summed: DoubleArray | None = None) -> Score:
        """From `tally`'s counts, and [blocks] hits of `coarse_summed`; of one block the interval is the value."""
        draws, frames = drawn(len(counts)), counts[:, 0]
        low, high = interval(ratios(draws @ counts))
        rows = (ratios(counts.sum(0)), low, high)
        value, least, most = (dict(zip(FIGURES, map(float, row), strict=True)) for row in rows)
        share: Figure | None = None
        if summed is not None:
            ends = interval((draws @ summed) / (draws @ frames))
            row = (summed.sum() / frames.sum(), *ends)
            share = dict(zip(("value", "low", "high"), map(float, row), strict=True))
        return cls(name, int(frames.sum()), value, least, most, share)

    @classmethod
    def heard(cls, name: str, logits: Sequence[FloatArray], truths: Sequence[IntArray], alike: bool = False) -> Score:
        """Of stretches of sound, logits [n, 28] and classes [n] each; ``alike``: the vowels of AH are `joined`."""
        said = [joined(one.argmax(1)) if alike else one.argmax(1) for one in logits]
        counts = [tally(guess, truth) for guess, truth in zip(said, truths, strict=True)]
        hits = [
            in_blocks((coarse_summed(one) == _COARSE_OF[truth])[:, None])
            for one, truth in zip(logits, truths, strict=True)
        ]
        return cls.of(name, np.concatenate(counts), np.concatenate(hits)[:, 0])

    def row(self) -> str:
        """A row of the table: each figure with its interval."""
        cells = [f"{self.value[f]:.2f} ({self.low[f]:.2f}-{self.high[f]:.2f})" for f in FIGURES]
        s = self.summed
        cells.append("" if s is None else f"{s['value']:.2f} ({s['low']:.2f}-{s['high']:.2f})")
        return " | ".join(["", self.name, str(self.frames), *cells, ""]).strip()


def sampled(pack: SpeechPack, split: str, most: int) -> IntArray:
    """About ``most`` frames of one split, or all if they are fewer: whole utterances, drawn at random."""
    frames = pack.frames(split)
    utterances = np.unique(pack.utterance[frames])
    wanted = round(len(utterances) * min(1.0, most / len(frames)))
    # Not every k-th: the voices of a corpus take turns.
    chosen = np.random.default_rng(0).permutation(utterances)[: max(1, wanted)]
    return frames[np.isin(pack.utterance[frames], chosen)]


def unheard(ear: AnyEar, heads: Heads, pack: SpeechPack, split: str, most: int) -> Score:
    """Clean machine speech of one split of the pack."""
    frames = sampled(pack, split, most)
    chunks = np.array_split(frames, max(1, len(frames) // 4096))
    heard = [features(ear, pack.slices(c, np.zeros(len(c), np.int64)).numpy()) for c in chunks]
    truth = pack.classes[frames].astype(np.int64)
    return Score.heard(split, [np.concatenate([class_logits(heads, f) for f in heard])], [truth])


# --- truth of real recordings -----------------------------------------------------------------------------------------
_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spoken_number(digits: str) -> list[str]:
    """Words of a number below 100, or of a year read in two halves (1455: fourteen fifty five).

    Raises:
        TranscriptError: another number; write it out in the transcript.
    """
    if len(digits) == 4 and digits[2] != "0":
        return [*spoken_number(digits[:2]), *spoken_number(digits[2:])]
    if len(digits) > 2:
        raise TranscriptError(f"write the number {digits} of the transcript in words")
    tens, unit = divmod(int(digits), 10)
    if tens < 2:
        return [_UNITS[int(digits)]]
    return [_TENS[tens], *([_UNITS[unit]] if unit else [])]


def words_of(text: str, known: Callable[[str], bool]) -> list[str]:
    """Words of a transcript as the dictionary spells them; a compound falls apart into two known words.

    Raises:
        TranscriptError: the dictionary knows neither a word nor its parts.
    """
    found: list[str] = []
    for word in re.findall(r"[a-z']+|\d+", text.lower().replace("’", "'")):
        spoken = spoken_number(word) if word.isdigit() else [word.strip("'")]
        for part in spoken:
            found += [part] if known(part) else _compound(part, known)
    return found


def _compound(word: str, known: Callable[[str], bool]) -> list[str]:
    """Two dictionary words of three letters or more that make up ``word``, cut as near its middle as possible."""
    cuts = sorted(range(3, len(word) - 2), key=lambda at: abs(at - len(word) / 2))
    for at in cuts:
        if known(word[:at]) and known(word[at:]):
            return [word[:at], word[at:]]
    raise TranscriptError(f"{word!r} is not in the pronouncing dictionary, nor a compound of words that are")


class Aligner:
    """Forced alignment of English by the model that comes with pocketsphinx 5."""

    #: Seconds a step of the aligner lasts.
    STEP = 0.01
    #: A step's sound is centred this much (seconds) after step * STEP: half of the window of 25.6 ms less half a step.
    OFFSET = (0.0256 - STEP) / 2

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        # bestpath: off, or the second pass gets words that are shorter than their phones can be, and fails.
        # silprob: a pause between words is nothing rare, or a phone before it swallows it.
        self._decoder = Decoder(lm=None, bestpath=False, cmn="batch", silprob=0.1, loglevel="FATAL")

    def _known(self, word: str) -> bool:
        return self._decoder.lookup_word(word) is not None

    def align(self, samples: FloatArray, text: str) -> tuple[Phone, ...]:
        """Phones (CMU, with their mouth shapes) of 16 kHz mono samples in which ``text`` is said.

        Raises:
            TranscriptError: a word is unknown, or the text does not fit the sound.
        """
        pcm = _pcm(samples)
        self._decoder.set_align_text(" ".join(words_of(text, self._known)))
        try:
            self._pass(pcm)
            self._decoder.set_alignment()
            self._pass(pcm)
        except RuntimeError as error:
            raise TranscriptError(f"the aligner finds no way through the sound with the text {text!r}") from error
        return tuple(_phone(p.name, p.start, p.duration) for word in self._decoder.get_alignment() for p in word)

    def _pass(self, pcm: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()


class Recogniser:
    """The aligner's own model, told no words: a free run of phones, one after the other as English likes them.

    It was taught on people, by many hours of them, and the truth is by the same model: what it hears is a mark for
    encoders that have only heard machines.
    """

    def __init__(self) -> None:
        from pocketsphinx import Decoder, get_model_path

        # Beams and weight as CMUSphinx advises for runs of phones (cmusphinx.github.io/wiki/phonemerecognition).
        phones = get_model_path("en-us/en-us-phone.lm.bin")
        beams = {"lw": 2.0, "beam": 1e-20, "pbeam": 1e-20}
        self._decoder = Decoder(lm=None, dict=None, allphone=phones, cmn="batch", loglevel="FATAL", **beams)

    def hear(self, samples: FloatArray) -> IntArray:
        """[frames] classes, `joined`, of 16 kHz mono samples."""
        self._decoder.start_utt()
        self._decoder.process_raw(_pcm(samples), full_utt=True)
        self._decoder.end_utt()
        phones = [_phone(s.word, s.start_frame, s.end_frame - s.start_frame + 1) for s in self._decoder.seg()]
        return joined(truth_of(phones, frame_count(len(samples))))


def _pcm(samples: FloatArray) -> bytes:
    """16 bits of samples at half of full scale, as pocketsphinx reads them."""
    peak = float(np.abs(samples).max(initial=1e-6))
    return np.round(samples / peak * 16000).astype(np.int16).tobytes()


def _phone(name: str, start: int, duration: int) -> Phone:
    """A phone of the aligner; its silence and noises are pauses."""
    silent = name == "SIL" or name.startswith("+")
    symbol = "pau" if silent else name.lower()
    begin, end = (Aligner.STEP * at + Aligner.OFFSET for at in (start, start + duration))
    return Phone(symbol, begin, end, (Shape(REST),) if silent else shapes_of_cmu(symbol))


def truth_of(phones: Sequence[Phone], frames: int) -> IntArray:
    """[frames] classes as a pack has them: where nobody speaks, rest."""
    classes = articulation.classes(phones, frames)
    return np.where(articulation.rest(phones, frames), CLASSES.index(REST), classes).astype(np.int64)


def joined(classes: npt.NDArray[np.integer]) -> IntArray:
    """The same classes with the two vowels of AH as one."""
    return np.where(classes == _ALIKE[0], _ALIKE[1], classes).astype(np.int64)


@dataclass(frozen=True)
class Recording:
    """A real person's speech with what is said when."""

    name: str
    samples: FloatArray
    """[n] 16 kHz mono."""
    truth: IntArray | None
    """[frames] classes, `joined`; None: nobody asked."""


def recordings(folder: Path, aligner: Aligner | None) -> Iterator[Recording]:
    """The English recordings of ``transcripts.tsv`` (file, language, text); what cannot be aligned is logged.

    Without an aligner they come without their truth.

    Raises:
        LipwrightError: there is no such file.
    """
    told = folder / "transcripts.tsv"
    if not told.is_file():
        raise LipwrightError(f"{told} is not there: docs/voice.md says which recordings --data must hold")
    for line in told.read_text(encoding="utf-8").splitlines():
        name, language, text = line.split("\t")
        if language != "en":
            log.warning("%s is left out: no aligner for the language %r", name, language)
            continue
        samples = hear(folder / name)
        if aligner is None:
            yield Recording(name, samples, None)
            continue
        try:
            phones = aligner.align(samples, text)
        except TranscriptError as error:
            log.warning("%s is left out: %s", name, error)
            continue
        yield Recording(name, samples, joined(truth_of(phones, frame_count(len(samples)))))


def aligner_on(utterances: Sequence[Utterance], aligner: Aligner) -> Score:
    """How far forced alignment agrees with the phone times of machine speech: the ceiling of every figure by it."""
    counts = []
    for u in utterances:
        try:
            phones = aligner.align(np.asarray(u.samples / 32768, np.float32), u.text)
        except TranscriptError as error:
            log.info("%s is left out: %s", u.id, error)
            continue
        truth = np.where(u.rest, CLASSES.index(REST), u.classes)
        counts.append(tally(joined(truth_of(phones, len(truth))), joined(truth)))
    return Score.of("the aligner on flite:slt", np.concatenate(counts))


# --- bad sound --------------------------------------------------------------------------------------------------------
Change = Callable[[FloatArray, np.random.Generator, Sequence[FloatArray]], FloatArray]


def _faint(x: FloatArray, _rng: np.random.Generator, _others: Sequence[FloatArray]) -> FloatArray:
    """40 dB less in a 16-bit file: what is below its last bit is lost."""
    return np.asarray(np.round(disguise.gain(x, -40) * 32768) / 32768, np.float32)


CONDITIONS: dict[str, Change] = {
    "babble at 10 dB": lambda x, rng, others: disguise.mix(x, disguise.babble(rng, others, len(x)), 10),
    "level -40 dB, 16 bit": _faint,
    "clipped 12 dB below its peak": lambda x, _rng, _others: disguise.clip(x, 12),
    "telephone": lambda x, _rng, _others: disguise.telephone(x),
}


#: The most that a change may make of the shipped encoder's features, as `relative_change` measures it; docs/voice.md.
TOLERANCES = {"level -40 dB, 16 bit": 0.65, "clipped 12 dB below its peak": 0.75, "telephone": 0.60}


@dataclass(frozen=True)
class Loss:
    """What a change of the sound costs in frame accuracy."""

    score: Score
    drop: float
    """Loss of accuracy, 0..1."""
    low: float
    high: float


@dataclass(frozen=True)
class Robustness:
    """What a change of the sound does to the features of all recordings."""

    name: str
    change: float
    """`relative_change`."""
    each: tuple[float, ...] = ()
    """The same of each recording."""
    demo: float = float("nan")
    """The same of the project's demo sound, which anybody has."""
    loss: Loss | None = None
    """None without heads."""

    @property
    def verdict(self) -> str:
        """``within`` or ``beyond`` the tolerance, with its value; empty where none is stated."""
        most = TOLERANCES.get(self.name)
        return "" if most is None else f"{'within' if self.change <= most else 'beyond'} {most:.2f}"


def disturbed(
    ear: AnyEar, sounds: Mapping[str, FloatArray], condition: str, voices: Mapping[str, FloatArray]
) -> list[FloatArray]:
    """Features of sounds by their files' names under one condition; ``voices`` babble, but not a sound's own file."""
    rng = np.random.default_rng(0)
    change = CONDITIONS[condition]
    others = {name: [voice for other, voice in voices.items() if other != name] for name in sounds}
    return [features(ear, mel_slices(change(sound, rng, others[name]))) for name, sound in sounds.items()]


def lost(
    heads: Heads, name: str, now: Sequence[FloatArray], then: Sequence[FloatArray], truths: list[IntArray]
) -> Loss:
    """The accuracy that features [n, 512] each have ``now`` against ``then``."""
    counts, before = (
        np.concatenate([tally(joined(guessed(heads, f)), truth) for f, truth in zip(fs, truths, strict=True)])
        for fs in (now, then)
    )
    weights = drawn(len(counts))
    low, high = interval(ratios(weights @ before)[:, 0] - ratios(weights @ counts)[:, 0])
    drop = float(ratios(before.sum(0))[0] - ratios(counts.sum(0))[0])
    return Loss(Score.of(name, counts), drop, float(low), float(high))


def relative_change(clean: Sequence[FloatArray], changed: Sequence[FloatArray]) -> float:
    """Root mean square of the difference of features over that of the clean ones about their mean."""
    before, after = np.concatenate(clean), np.concatenate(changed)
    return float(np.sqrt(np.mean((after - before) ** 2) / np.mean((before - before.mean(0)) ** 2)))


# --- streaming --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Streaming:
    """Sound in random chunks against the same sound at once."""

    mel_identical: bool
    """Every bit of every mel slice."""
    feature_difference: float
    """Largest difference of any feature, encoded chunk by chunk and at once."""
    feature_largest: float
    """Largest feature."""


def streamed(ear: AnyEar, samples: FloatArray) -> Streaming:
    """Push the sound in chunks of 1 to 4000 samples and encode whatever slices they complete."""
    rng = np.random.default_rng(0)
    cuts = np.cumsum(rng.integers(1, 4001, len(samples) // 1000))
    stream = MelStream()
    parts = [stream.push(chunk) for chunk in np.split(samples, cuts[cuts < len(samples)])] + [stream.flush()]
    parts = [part for part in parts if len(part)]
    at_once = mel_slices(samples)
    with torch.autocast("cpu", enabled=False):  # rounding would hide or make differences
        whole, pieces = features(ear, at_once), np.concatenate([features(ear, part) for part in parts])
    identical = np.array_equal(np.concatenate(parts), at_once)
    return Streaming(identical, float(np.abs(whole - pieces).max()), float(whole.max()))


# --- the lip gap of real films ----------------------------------------------------------------------------------------
def film_figures(ear: AnyEar, film: Path) -> dict[str, Figure]:
    """Correlation with the lip gap, `lip_gap.figures`: features, log-mel, and the encoder's own head if it has any."""
    with VideoReader(film) as pictures:
        lips, mel = lip_gap.watched(pictures), mel_slices(hear(film))
    frames = min(len(lips.gap), len(mel))
    lips, mel = lips.first(frames), mel[:frames]
    feature = features(ear, mel)
    own = None if ear.heads is None else read(ear.heads.tracks, feature)[:, GAP_TRACK].astype(np.float64)
    log.info("%s: %d frames, a face in %d, cuts %s", film.name, frames, np.isfinite(lips.gap).sum(), lips.cuts)
    return lip_gap.figures({"features": feature, "log-mel": mel.reshape(frames, -1)}, lips, own)


# --- the table --------------------------------------------------------------------------------------------------------
def _head(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def frame_table(scores: Sequence[Score]) -> str:
    """Frame figures as Markdown."""
    names = ["sound", "frames", *(figure.replace("_", " ") for figure in FIGURES), "coarse, summed"]
    return "\n".join([_head(*names), *(score.row() for score in scores)])


def robustness_table(rows: Sequence[Robustness]) -> str:
    """Effects of bad sound as Markdown."""
    lines = []
    for r in rows:
        cells = ["", ""]
        if r.loss is not None:
            drop, low, high = (100 * x for x in (r.loss.drop, r.loss.low, r.loss.high))
            cells = [f"{100 * r.loss.score.value['accuracy']:.1f} %", f"{drop:.1f} ({low:.1f}-{high:.1f})"]
        changes = [f"{r.change:.2f}", f"{min(r.each):.2f} to {max(r.each):.2f}", f"{r.demo:.2f}"]
        lines.append(f"| {' | '.join([r.name, *changes, r.verdict, *cells])} |")
    names = ["sound", "change of features", "one by one", "demo sound", "tolerance", "accuracy", "drop, points"]
    return "\n".join([_head(*names), *lines])


WITHOUT_HEADS = "Without a heads file: no frame figures, no loss of accuracy, no lip gap of the encoder's own."


@dataclass(frozen=True)
class Report:
    """All measures of one encoder."""

    frames: list[Score]
    robustness: list[Robustness]
    films: dict[str, dict[str, Figure]]
    streaming: Streaming

    def table(self) -> str:
        """Markdown."""
        s = self.streaming
        streaming = (
            f"Streamed in random chunks: mel slices {'identical' if s.mel_identical else 'DIFFERENT'}, "
            f"features differ by at most {s.feature_difference:.1e} (largest feature {s.feature_largest:.1f})."
        )
        frames = frame_table(self.frames) if self.frames else WITHOUT_HEADS
        return "\n\n".join([frames, robustness_table(self.robustness), lip_gap.table(self.films), streaming])

    def json(self) -> str:
        """Everything, with intervals."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def people_measures(
    ear: AnyEar, speech: Path, people: Sequence[Recording]
) -> tuple[list[Score], list[Robustness], Streaming]:
    """Real recordings: one by one, all together, under bad conditions, and streamed.

    Raises:
        LipwrightError: there is one recording only.
    """
    voices = {path.name: hear(path) for path in sorted(speech.iterdir()) if path.suffix in (".wav", ".flac")}
    if len(voices) < 2:
        raise LipwrightError(f"{speech} holds one recording: put another beside it, for somebody must babble")
    sounds = {person.name: person.samples for person in people}
    clean = [features(ear, mel_slices(sound)) for sound in sounds.values()]
    truths = [person.truth for person in people if person.truth is not None]
    scores = people_scores(ear.heads, list(sounds), clean, truths) if ear.heads else []
    demo = hear(builtin_sound())
    demo_clean = features(ear, mel_slices(demo))
    bad = []
    for condition in CONDITIONS:
        heard = disturbed(ear, sounds, condition, voices)
        each = tuple(relative_change([before], [after]) for before, after in zip(clean, heard, strict=True))
        of_demo = relative_change([demo_clean], disturbed(ear, {"demo": demo}, condition, voices))
        loss = lost(ear.heads, condition, heard, clean, truths) if ear.heads else None
        bad.append(Robustness(condition, relative_change(clean, heard), each, of_demo, loss))
    return scores, bad, streamed(ear, people[0].samples[: 10 * SAMPLE_RATE])


def people_scores(
    heads: Heads, names: Sequence[str], clean: Sequence[FloatArray], truths: Sequence[IntArray]
) -> list[Score]:
    """Features [n, 512] and classes [n] of recordings: each, all, and what always the same answer would score."""
    logits = [class_logits(heads, feature) for feature in clean]
    each = zip(names, logits, truths, strict=True)
    scores = [Score.heard(name, [one], [truth], alike=True) for name, one, truth in each]
    scores.append(Score.heard("real recordings, all", logits, truths, alike=True))
    always = np.bincount(np.concatenate(truths)).argmax()
    chance = [tally(np.full(len(truth), always), truth) for truth in truths]
    return [*scores, Score.of(f"the same, were the answer always {CLASSES[always]}", np.concatenate(chance))]


def recogniser_score(people: Sequence[Recording]) -> Score:
    """What a recogniser taught on people hears of them when it is not told the words."""
    recogniser = Recogniser()
    heard = [(recogniser.hear(person.samples), person.truth) for person in people if person.truth is not None]
    return Score.of("the aligner's model, not told the words", np.concatenate([tally(*pair) for pair in heard]))


def machine_measures(ear: AnyEar, pack: SpeechPack | None, most: int) -> list[Score]:
    """Every split of the pack that training never heard."""
    if ear.heads is None or pack is None:
        log.info("without heads and a pack: nothing of machine speech")
        return []
    return [unheard(ear, ear.heads, pack, split, most) for split in pack.splits if split.startswith("heldout")]


def measure(ear: AnyEar, pack: SpeechPack | None, most: int, data: Path, corpus: Path | None) -> Report:
    """All measures; the parts log their names as they begin."""
    log.info("machine speech")
    scores = machine_measures(ear, pack, most)
    aligner = Aligner() if ear.heads else None
    if corpus is not None and aligner is not None:
        log.info("the aligner on machine speech")
        voice = (u for u in load(corpus, ("heldout_voice",)) if u.voice == "flite:slt" and u.language == "en")
        scores.append(aligner_on(list(islice(voice, 20)), aligner))
    log.info("real recordings")
    people = list(recordings(data / "speech", aligner))
    own, bad, streaming = people_measures(ear, data / "speech", people)
    if aligner is not None:
        own.append(recogniser_score(people))
    films = {name: film_figures(ear, data / "video" / name) for name in FILMS}
    return Report(scores + own, bad, films, streaming)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("heads", type=Path, nargs="?")
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--most", type=int, default=20_000, help="frames of machine speech of each split")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="four times as fast where the processor has such units")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    pack = SpeechPack.load(options.pack) if options.pack else None
    if pack is not None and tuple(pack.names) != CLASSES:
        parser.error(f"{options.pack} has other classes than phones.py: pack the corpus again")
    ear = load_ear(options.encoder, options.heads)
    with in_a_sentence(), torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        report = measure(ear, pack, options.most, options.data, options.corpus)
    print(report.table())
    if options.json:
        options.json.write_text(report.json(), encoding="utf-8")
    if not report.streaming.mel_identical:
        raise SystemExit("streamed and whole-file mel slices differ: MelStream is broken")


if __name__ == "__main__":
    main()
