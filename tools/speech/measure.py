"""Measure an audio encoder: machine speech it never heard, real people, real films, bad sound, streaming.

    python -m tools.speech.measure ENCODER.pth HEADS.pth --pack PACK.npz --data DEV_DATA --corpus CORPUS --json OUT.json

ENCODER.pth and HEADS.pth come from ``train_encoder.py``, PACK.npz from ``pack_speech.py``; DEV_DATA is the folder with
``speech/transcripts.tsv`` and ``video/``. With CORPUS, which may be left out, the truth itself is measured: how far
forced alignment agrees with the phone times of machine speech. ``docs/voice.md`` explains every figure. Needs
pocketsphinx and torch.
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
from lipwright.check.lips import lip_gaps
from lipwright.contract import FPS, SAMPLE_RATE, FloatArray, frame_count
from lipwright.training import disguise
from lipwright.video import VideoReader
from tools.speech import articulation
from tools.speech.corpus import Utterance, load
from tools.speech.phones import CHANNELS, CLASSES, CLOSED, REST, ROUNDED, Phone, Shape, shapes_of_cmu
from tools.speech.train_encoder import Ear, SpeechPack

log = logging.getLogger("measure")

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Figure = dict[str, float]

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

# --- statistics -------------------------------------------------------------------------------------------------------
#: Frames that are drawn together: neighbours are no independent observations.
BLOCK = FPS
DRAWS = 2000
CONFIDENCE = (2.5, 97.5)

# --- read-out of the lip gap ------------------------------------------------------------------------------------------
FILMS = ("ls_demo1.mp4", "ls_demo2.mp4")
#: The read-out of frame i sees frames i - CONTEXT .. i + CONTEXT.
CONTEXT = 2
#: Principal components of each frame, for every kind of input alike.
COMPONENTS = 24
FOLDS = 5
INNER_FOLDS = 4
#: Frames between training and test.
GAP = FPS
#: Penalties tried inside the training folds, times the number of training frames.
PENALTIES = 10.0 ** np.arange(-2, 4)
#: Column of the lip gap among the tracks of a pack: the 13 channels, closure, then `articulation.Measures`.
GAP_TRACK = len(CHANNELS) + 1


class TranscriptError(ValueError):
    """A recording cannot be aligned with its transcript."""


# --- what the encoder hears -------------------------------------------------------------------------------------------
def load_ear(encoder: Path, heads: Path) -> Ear:
    """The encoder and its linear read-outs from their ``state_dict`` files."""
    state = torch.load(heads, weights_only=True)
    ear = Ear(len(state["classes.weight"]), len(state["tracks.weight"]))
    ear.encoder.load_state_dict(torch.load(encoder, weights_only=True))
    ear.heads.load_state_dict(state)
    return ear.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@torch.inference_mode()
def features(ear: Ear, mel: FloatArray) -> FloatArray:
    """[n, 512] features of [n, 1, 80, 16] slices."""
    chunks = (torch.from_numpy(mel[at : at + 256]) for at in range(0, len(mel), 256))
    parts = [ear.encoder(chunk.contiguous(memory_format=torch.channels_last)).float() for chunk in chunks]
    return np.asarray(torch.cat(parts).numpy())


@torch.inference_mode()
def read(head: nn.Linear, feature: FloatArray) -> FloatArray:
    """[n, k] what a linear read-out makes of [n, 512] features."""
    with torch.autocast("cpu", enabled=False):
        return np.asarray(head(torch.from_numpy(feature)).numpy())


def guessed(ear: Ear, feature: FloatArray) -> IntArray:
    """[n] the most probable class of each feature."""
    return np.asarray(read(ear.heads.classes, feature).argmax(1))


# --- frame accuracy ---------------------------------------------------------------------------------------------------
def tally(guess: npt.NDArray[np.integer], truth: npt.NDArray[np.integer]) -> DoubleArray:
    """[blocks, 12] counts of every second: frames, hits, coarse hits, and of each group hits, true and said frames."""
    columns = [np.ones(len(truth)), guess == truth, _COARSE_OF[guess] == _COARSE_OF[truth]]
    for group in _GROUPS.values():
        ids = [CLASSES.index(name) for name in sorted(group)]
        said, there = np.isin(guess, ids), np.isin(truth, ids)
        columns += [said & there, there, said]
    counts = np.stack(columns, axis=1).astype(np.float64)
    return np.add.reduceat(counts, np.arange(0, len(counts), BLOCK))


def ratios(counts: DoubleArray) -> DoubleArray:
    """[..., 12] counts -> [..., 8] in the order of FIGURES; 0 where a group never occurs."""
    at_least_one = np.maximum(counts, 1)
    parts = [counts[..., 1:3] / at_least_one[..., :1]]
    for k in range(3, counts.shape[-1], 3):
        parts.append(counts[..., k : k + 1] / at_least_one[..., [k + 1, k + 2]])
    return np.concatenate(parts, axis=-1)


def drawn(blocks: int) -> DoubleArray:
    """[DRAWS, blocks] how often each block is in each bootstrap sample."""
    return np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), DRAWS).astype(np.float64)


def interval(values: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Lower and upper end of the 95 % confidence interval over the first axis."""
    low, high = np.percentile(values, CONFIDENCE, axis=0)
    return low, high


@dataclass(frozen=True)
class Score:
    """Frame figures of one stretch of sound, with block-bootstrap confidence intervals."""

    name: str
    frames: int
    value: Figure
    low: Figure
    high: Figure

    @classmethod
    def of(cls, name: str, counts: DoubleArray) -> Score:
        """From `tally`'s counts; of one block the interval is the value itself."""
        low, high = interval(ratios(drawn(len(counts)) @ counts))
        value = ratios(counts.sum(0))
        named = [dict(zip(FIGURES, map(float, row), strict=True)) for row in (value, low, high)]
        return cls(name, int(counts[:, 0].sum()), *named)

    def row(self) -> str:
        """A row of the table: each figure with its interval."""
        cells = [f"{self.value[f]:.2f} ({self.low[f]:.2f}-{self.high[f]:.2f})" for f in FIGURES]
        return " | ".join(["", self.name, str(self.frames), *cells, ""]).strip()


def sampled(pack: SpeechPack, split: str, most: int) -> IntArray:
    """About ``most`` frames of one split, or all if they are fewer: whole utterances, drawn at random."""
    frames = pack.frames(split)
    utterances = np.unique(pack.utterance[frames])
    wanted = round(len(utterances) * min(1.0, most / len(frames)))
    # Not every k-th: the voices of a corpus take turns.
    chosen = np.random.default_rng(0).permutation(utterances)[: max(1, wanted)]
    return frames[np.isin(pack.utterance[frames], chosen)]


def unheard(ear: Ear, pack: SpeechPack, split: str, most: int) -> Score:
    """Clean machine speech of one split of the pack."""
    frames = sampled(pack, split, most)
    truth = pack.classes[frames]
    chunks = np.array_split(frames, max(1, len(frames) // 4096))
    guess = [guessed(ear, features(ear, pack.slices(c, np.zeros(len(c), np.int64)).numpy())) for c in chunks]
    return Score.of(split, tally(np.concatenate(guess), truth))


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
        peak = float(np.abs(samples).max(initial=1e-6))
        pcm = np.round(samples / peak * 16000).astype(np.int16).tobytes()
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
    truth: IntArray
    """[frames] classes, `joined`."""


def recordings(folder: Path, aligner: Aligner) -> Iterator[Recording]:
    """The English recordings of ``transcripts.tsv`` (file, language, text); what cannot be aligned is logged."""
    for line in (folder / "transcripts.tsv").read_text(encoding="utf-8").splitlines():
        name, language, text = line.split("\t")
        if language != "en":
            log.warning("%s is left out: no aligner for the language %r", name, language)
            continue
        samples = hear(folder / name)
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


@dataclass(frozen=True)
class Robustness:
    """What a change of the sound does to the features of all recordings."""

    score: Score
    change: float
    """Root mean square of the difference over that of the clean features about their mean."""
    drop: float
    """Loss of accuracy, 0..1."""
    drop_low: float
    drop_high: float


def disturbed(
    ear: Ear, people: Sequence[Recording], condition: str, others: Mapping[str, FloatArray], clean: Sequence[FloatArray]
) -> Robustness:
    """The recordings under one condition; ``others`` are the voices of the babble, the speaker's own file left out."""
    rng = np.random.default_rng(0)
    heard = []
    for person in people:
        voices = [voice for name, voice in others.items() if name != person.name]
        heard.append(features(ear, mel_slices(CONDITIONS[condition](person.samples, rng, voices))))
    counts, before = (
        [tally(joined(guessed(ear, f)), p.truth) for f, p in zip(fs, people, strict=True)] for fs in (heard, clean)
    )
    now, then = np.concatenate(counts), np.concatenate(before)
    weights = drawn(len(now))
    low, high = interval(ratios(weights @ then)[:, 0] - ratios(weights @ now)[:, 0])
    drop = float(ratios(then.sum(0))[0] - ratios(now.sum(0))[0])
    return Robustness(Score.of(condition, now), relative_change(clean, heard), drop, float(low), float(high))


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


def streamed(ear: Ear, samples: FloatArray) -> Streaming:
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
def folds(frames: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Training and test frames of FOLDS contiguous parts, GAP frames apart."""
    every = np.arange(frames)
    for test in np.array_split(every, FOLDS):
        yield every[(every < test[0] - GAP) | (every > test[-1] + GAP)], test


def reduced(inputs: FloatArray, train: IntArray) -> DoubleArray:
    """[n, (2 CONTEXT + 1) COMPONENTS]: principal components of standardised inputs [n, d], neighbours side by side.

    Mean, spread and components are those of the training frames; beyond the ends the last frame is repeated.
    """
    known = inputs[train].astype(np.float64)
    mean, spread = known.mean(0), known.std(0) + 1e-3 * known.std()
    axes = np.linalg.svd((known - mean) / spread, full_matrices=False)[2][:COMPONENTS]
    scores = (inputs - mean) / spread @ axes.T
    around = np.arange(len(inputs))[:, None] + np.arange(-CONTEXT, CONTEXT + 1)
    return np.asarray(scores[np.clip(around, 0, len(inputs) - 1)].reshape(len(inputs), -1))


def ridge(x: DoubleArray, y: DoubleArray, penalty: float) -> Callable[[DoubleArray], DoubleArray]:
    """Linear read-out of [n, d] to [n] with ``penalty * n`` on the squared weights; the mean is free."""
    middle, level = x.mean(0), float(y.mean())
    centred = x - middle
    weights = np.linalg.solve(centred.T @ centred + penalty * len(x) * np.eye(x.shape[1]), centred.T @ (y - level))
    return lambda new: (new - middle) @ weights + level


def best_penalty(x: DoubleArray, y: DoubleArray) -> float:
    """Of PENALTIES the one with the least squared error over contiguous parts of the training frames."""
    parts = np.array_split(np.arange(len(x)), INNER_FOLDS)

    def error(penalty: float) -> float:
        rest = [np.setdiff1d(np.arange(len(x)), part) for part in parts]
        return sum(
            float(np.sum((ridge(x[r], y[r], penalty)(x[p]) - y[p]) ** 2)) for r, p in zip(rest, parts, strict=True)
        )

    return float(min(PENALTIES, key=error))


def read_out(inputs: FloatArray, gap: DoubleArray) -> DoubleArray:
    """[n] lip gap of every frame, predicted by a ridge regression that saw only frames at least a second away."""
    said = np.full(len(gap), np.nan)
    for train, test in folds(len(gap)):
        train = train[np.isfinite(gap[train])]
        x = reduced(inputs, train)
        said[test] = ridge(x[train], gap[train], best_penalty(x[train], gap[train]))(x[test])
    return said


def correlations(said: DoubleArray, gap: DoubleArray) -> DoubleArray:
    """[1 + DRAWS] Pearson's r of all known frames, then of every bootstrap sample of blocks of a second."""
    known = np.isfinite(gap)
    moments = np.stack([known, said, gap, said * said, gap * gap, said * gap], axis=1)
    blocks = np.add.reduceat(np.where(known[:, None], moments, 0.0), np.arange(0, len(gap), BLOCK))
    n, x, y, xx, yy, xy = np.concatenate([blocks.sum(0)[None], drawn(len(blocks)) @ blocks]).T
    return np.asarray((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))


def within_parts(values: DoubleArray) -> DoubleArray:
    """The same series without the mean of each of the FOLDS parts: how a mouth moves, not how a face holds it."""
    return np.concatenate([part - np.nanmean(part) for part in np.array_split(values, FOLDS)])


def _with_interval(r: DoubleArray) -> Figure:
    low, high = interval(r[1:])
    return {"r": float(r[0]), "low": float(low), "high": float(high)}


def film_figures(ear: Ear, film: Path) -> dict[str, Figure]:
    """Correlation with the lip gap: read-outs of features and of log-mel, their difference, the encoder's own head."""
    with VideoReader(film) as pictures:
        gap, mel = lip_gaps(pictures), mel_slices(hear(film))
    frames = min(len(gap), len(mel))
    gap, mel = gap[:frames], mel[:frames]
    feature = features(ear, mel)
    own = read(ear.heads.tracks, feature)[:, GAP_TRACK].astype(np.float64)
    said = [read_out(inputs, gap) for inputs in (feature, mel.reshape(frames, -1))]
    heard, plain = (correlations(one, gap) for one in said)
    moved, plainly = (correlations(within_parts(one), within_parts(gap)) for one in said)
    return {
        "features": _with_interval(heard),
        "log-mel": _with_interval(plain),
        "difference": _with_interval(heard - plain),
        "features, within parts": _with_interval(moved),
        "log-mel, within parts": _with_interval(plainly),
        "difference, within parts": _with_interval(moved - plainly),
        "own head, not fitted": _with_interval(correlations(own, gap)),
        "frames": {"all": float(frames), "with a face": float(np.isfinite(gap).sum())},
    }


# --- the table --------------------------------------------------------------------------------------------------------
def _head(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def frame_table(scores: Sequence[Score]) -> str:
    """Frame figures as Markdown."""
    names = ["sound", "frames", *(figure.replace("_", " ") for figure in FIGURES)]
    return "\n".join([_head(*names), *(score.row() for score in scores)])


def robustness_table(rows: Sequence[Robustness]) -> str:
    """Effects of bad sound as Markdown."""
    lines = [
        f"| {r.score.name} | {r.change:.2f} | {100 * r.score.value['accuracy']:.1f} % "
        f"| {100 * r.drop:.1f} ({100 * r.drop_low:.1f}-{100 * r.drop_high:.1f}) |"
        for r in rows
    ]
    return "\n".join([_head("sound", "change of features", "accuracy", "drop, points"), *lines])


def film_table(films: Mapping[str, Mapping[str, Figure]]) -> str:
    """Correlations with the lip gap as Markdown."""
    rows = next(iter(films.values()))
    lines = [_head("film", *(name for name in rows if name != "frames"))]
    for film, figures in films.items():
        cells = [f"{v['r']:.2f} ({v['low']:.2f}-{v['high']:.2f})" for name, v in figures.items() if name != "frames"]
        lines.append(f"| {' | '.join([film, *cells])} |")
    return "\n".join(lines)


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
        parts = [frame_table(self.frames), robustness_table(self.robustness), film_table(self.films), streaming]
        return "\n\n".join(parts)

    def json(self) -> str:
        """Everything, with intervals."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def people_measures(
    ear: Ear, speech: Path, people: Sequence[Recording]
) -> tuple[list[Score], list[Robustness], Streaming]:
    """Real recordings: one by one, all together, under bad conditions, and streamed."""
    others = {path.name: hear(path) for path in sorted(speech.iterdir()) if path.suffix in (".wav", ".flac")}
    clean = [features(ear, mel_slices(person.samples)) for person in people]
    counts = [tally(joined(guessed(ear, f)), p.truth) for f, p in zip(clean, people, strict=True)]
    scores = [Score.of(p.name, c) for p, c in zip(people, counts, strict=True)]
    scores.append(Score.of("real recordings, all", np.concatenate(counts)))
    always = np.bincount(np.concatenate([p.truth for p in people])).argmax()
    chance = [tally(np.full(len(p.truth), always), p.truth) for p in people]
    scores.append(Score.of(f"the same, were the answer always {CLASSES[always]}", np.concatenate(chance)))
    bad = [disturbed(ear, people, condition, others, clean) for condition in CONDITIONS]
    return scores, bad, streamed(ear, people[0].samples[: 10 * SAMPLE_RATE])


def measure(ear: Ear, pack: SpeechPack, most: int, data: Path, corpus: Path | None) -> Report:
    """All measures; the parts log their names as they begin."""
    scores = []
    for split in (s for s in pack.splits if s.startswith("heldout")):
        log.info("%s", split)
        scores.append(unheard(ear, pack, split, most))
    aligner = Aligner()
    if corpus is not None:
        log.info("the aligner on machine speech")
        voice = (u for u in load(corpus, ("heldout_voice",)) if u.voice == "flite:slt" and u.language == "en")
        scores.append(aligner_on(list(islice(voice, 20)), aligner))
    log.info("real recordings")
    people = list(recordings(data / "speech", aligner))
    own, bad, streaming = people_measures(ear, data / "speech", people)
    films = {}
    for name in FILMS:
        log.info("%s", name)
        films[name] = film_figures(ear, data / "video" / name)
    return Report(scores + own, bad, films, streaming)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("heads", type=Path)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--most", type=int, default=20_000, help="frames of machine speech of each split")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="four times as fast where the processor has such units")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    pack = SpeechPack.load(options.pack)
    if tuple(pack.names) != CLASSES:
        parser.error(f"{options.pack} has other classes than phones.py: pack the corpus again")
    ear = load_ear(options.encoder, options.heads)
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        report = measure(ear, pack, options.most, options.data, options.corpus)
    print(report.table())
    if options.json:
        options.json.write_text(report.json(), encoding="utf-8")
    if not report.streaming.mel_identical:
        raise SystemExit("streamed and whole-file mel slices differ: MelStream is broken")


if __name__ == "__main__":
    main()
