"""Where and how widely people say each phone, beside a machine that says it in one way.

The acoustic model that comes with pocketsphinx (CMUSphinx en-us, BSD licence) was taught on very many people. Of the
three parts of every phone it knows where their spectra lie, and how far people scatter round it: twice as far as one
of flite's voices. Training speech is moved towards that place, and every slice scatters as another speaker's would
(`train_encoder.as_people`). Only sums over the model's Gaussians are taken, into a pack; nothing of it is shipped.

Sources: the files as SphinxTrain writes them (``s3`` headers; phonetically tied mixtures, one codebook a phone) and as
pocketsphinx reads them (``ptm_mgau.c``, ``bin_mdef.c``); the cepstra of its front end (25 mel filters, 130 to 6800 Hz,
orthonormal DCT, lifter 22).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright.audio.mel import band_edges
from lipwright.contract import CENTRED, HOP_LENGTH, SAMPLE_RATE, FloatArray
from lipwright.errors import LipwrightError
from tools.speech.phones import Phone

DoubleArray = npt.NDArray[np.float64]
Int16Array = npt.NDArray[np.int16]

#: CMU's phones and silence; the model's fillers, such as a cough, are left out.
PHONES = (
    *("aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh"),
    *("k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh"),
    "sil",
)
PARTS = 3
STATES = PARTS * len(PHONES)
#: A column of which nobody knows the phone in CMU's spelling.
UNKNOWN = STATES
CEPSTRA = 13
#: Voices whose phones are CMU's; the others spell in IPA and are only scattered.
_CMU_VOICES = ("flite:", "festival:cmu_us_", "festival:ked_")
_SPELLINGS = {"ax": "ah", "pau": "sil"}

_FILTERS, _LOW_HZ, _HIGH_HZ, _LIFTER = 25, 130.0, 6800.0, 22
#: Units of our mel (12.5 dB) in one of the front end's, the natural logarithm of power.
_UNIT = 10 / np.log(10) * 8 / 100
#: A mean of fewer columns than this is no mean; of twice as many it counts two thirds.
_FEW = 30
#: Loudness is drawn elsewhere, and silence is a matter of rooms: what these are moved and scattered by.
_OF_LOUDNESS, _OF_SILENCE = 0.5, 0.5


@dataclass(frozen=True)
class People:
    """Cepstra of people's phones, about the mean of their speech."""

    mean: DoubleArray
    """[STATES, 13]."""
    covariance: DoubleArray
    """[STATES, 13, 13]."""


def read_people(model: Path | None = None) -> People:
    """From an acoustic model in a folder; None: the one that comes with pocketsphinx.

    Raises:
        LipwrightError: pocketsphinx is not there, or its files are not as those of CMUSphinx en-us are.
    """
    try:
        from pocketsphinx import get_model_path
    except ImportError as error:
        raise LipwrightError("pocketsphinx is needed for the statistics of people: pip install pocketsphinx") from error

    folder = Path(get_model_path("en-us/en-us")) if model is None else model
    names, senones = _definition(folder / "mdef")
    means, variances = (_gaussians(folder / name) for name in ("means", "variances"))
    if len(names) != len(means) or means.shape[2] != CEPSTRA:
        raise LipwrightError(f"{folder} has no codebook of {CEPSTRA} cepstra a phone: take pocketsphinx 5's en-us")
    weights = _weights(folder / "sendump", means.shape[1], senones)
    pairs = [
        _moments(weights[:, PARTS * at + part], means[at], variances[at])
        for at in (names.index(phone.upper()) for phone in PHONES)
        for part in range(PARTS)
    ]
    return People(np.stack([mean for mean, _ in pairs]), np.stack([covariance for _, covariance in pairs]))


def _moments(weights: DoubleArray, means: DoubleArray, variances: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Mean [13] and covariance [13, 13] of a mixture of [n] Gaussians with diagonal covariances [n, 13]."""
    shares = weights / weights.sum()
    mean = shares @ means
    off = means - mean
    return mean, (off * shares[:, None]).T @ off + np.diag(shares @ variances)


def _definition(path: Path) -> tuple[list[str], int]:
    """Names of the phones without context, and the number of senones; theirs come first, three a phone."""
    data = path.read_bytes()
    at = 12 + int.from_bytes(data[8:12], "little")
    phones, _, _, _, senones = np.frombuffer(data, "<i4", 5, at)
    names = data[at + 40 :].split(b"\0", int(phones))[: int(phones)]
    return [name.decode("ascii") for name in names], int(senones)


def _gaussians(path: Path) -> DoubleArray:
    """[codebooks, densities, 13] of the first stream: the cepstra themselves, not their changes."""
    data = path.read_bytes()
    at = data.index(b"endhdr\n") + len(b"endhdr\n")
    order = "<" if data[at : at + 4] == (0x11223344).to_bytes(4, "little") else ">"
    codebooks, streams, densities = (int(n) for n in np.frombuffer(data, f"{order}i4", 3, at + 4))
    lengths = np.frombuffer(data, f"{order}i4", streams, at + 16)
    values = np.frombuffer(data, f"{order}f4", codebooks * densities * int(lengths.sum()), at + 20 + 4 * streams)
    # A codebook holds one stream after the other.
    own = values.reshape(codebooks, -1)[:, : densities * int(lengths[0])]
    return own.reshape(codebooks, densities, -1).astype(np.float64)


def _weights(path: Path, densities: int, senones: int) -> DoubleArray:
    """[densities, senones] weights of the first stream; the file ends with all streams, in 8 bits of a logarithm."""
    streams = 3
    data = np.frombuffer(path.read_bytes(), np.uint8)[-streams * densities * senones :]
    return np.asarray(1.0001 ** -(data.reshape(streams, densities, senones)[0].astype(np.float64) * 1024))


def states(voice: str, phones: Sequence[Phone], columns: int) -> Int16Array:
    """[columns] the part of the phone at each mel column, from the first that ``pack_speech`` keeps."""
    found = np.full(columns, UNKNOWN, np.int16)
    if not voice.startswith(_CMU_VOICES):
        return found
    seconds = (CENTRED.start(0) + np.arange(columns)) * HOP_LENGTH / SAMPLE_RATE
    for phone in phones:
        symbol = _SPELLINGS.get(phone.symbol, phone.symbol)
        if symbol in PHONES:
            first, last = np.searchsorted(seconds, [phone.start, phone.end])
            through = (seconds[first:last] - phone.start) / (phone.end - phone.start)
            found[first:last] = PARTS * PHONES.index(symbol) + np.minimum(through * PARTS, PARTS - 1).astype(int)
    return found


def curves() -> DoubleArray:
    """[13, 80]: what one unit of each cepstral coefficient adds to our mel bands, in mel's units."""
    hz = band_edges()[1:-1]
    theirs = 2595 * np.log10(1 + np.array([_LOW_HZ, *hz, _HIGH_HZ]) / 700)
    place = (theirs[1:-1] - theirs[0]) / (theirs[-1] - theirs[0]) * (_FILTERS + 1) - 1
    place = np.clip(place, -0.5, _FILTERS - 0.5)
    order = np.arange(CEPSTRA)[:, None]
    lifted = 1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)
    norm = np.sqrt(np.where(order == 0, 1, 2) / _FILTERS)
    return np.asarray(_UNIT * norm / lifted * np.cos(np.pi * order * (place + 0.5) / _FILTERS))


def shifts(
    people: People, mel: npt.NDArray[np.float16], state: Int16Array, utterance: npt.NDArray[np.int64], voice: Int16Array
) -> FloatArray:
    """[voices, STATES + 1, 80]: what to add to a voice's mel to bring the mean of each state to where people have it.

    Args:
        people: Where they have it.
        mel: [columns, 80] of all voices, in a quiet room.
        state: [columns] of `states`.
        utterance: [columns] to which each belongs, from 0.
        voice: [utterances] index of who speaks it.
    """
    cepstra = mel.astype(np.float32) @ np.linalg.pinv(curves()).astype(np.float32)
    spoken = state < PARTS * PHONES.index("sil")
    level = _means(cepstra[spoken], utterance[spoken], len(voice))[0]
    known = state != UNKNOWN
    at = voice[utterance[known]].astype(np.int64) * STATES + state[known]
    voices = int(voice.max()) + 1
    mean, count = _means((cepstra - level[utterance])[known], at, voices * STATES)
    moved = [_shift(people, *pair) for pair in zip(_by_voice(mean, voices), _by_voice(count, voices), strict=True)]
    unknown = np.zeros((voices, 1, CEPSTRA))
    return np.asarray(np.concatenate([np.stack(moved), unknown], axis=1) @ curves(), dtype=np.float32)


def _by_voice(values: DoubleArray, voices: int) -> DoubleArray:
    return values.reshape(voices, STATES, *values.shape[1:])


def _means(values: FloatArray, group: npt.NDArray[np.integer], groups: int) -> tuple[DoubleArray, DoubleArray]:
    """[groups, k] means of values [n, k] and [groups] how many there are; 0 of none."""
    count = np.bincount(group, minlength=groups).astype(np.float64)
    sums = [np.bincount(group, column, groups) for column in values.T]
    return np.stack(sums, axis=1) / np.maximum(count, 1)[:, None], count


def _shift(people: People, mean: DoubleArray, count: DoubleArray) -> DoubleArray:
    """[STATES, 13] from one voice's means to people's, both about their mean over what the voice says."""
    sure = np.where(count >= _FEW, count / (count + 2 * _FEW), 0)
    sure[PARTS * PHONES.index("sil") :] = 0
    if not sure.any():
        return np.zeros_like(people.mean)
    share = count * (sure > 0) / (count * (sure > 0)).sum()
    moved = ((people.mean - share @ people.mean) - (mean - share @ mean)) * sure[:, None]
    moved[:, 0] *= _OF_LOUDNESS
    return np.asarray(moved)


def scatter(people: People) -> FloatArray:
    """[STATES + 1, 13, 80]: curves that, times 13 normal numbers, scatter a state's mel as people do.

    The same numbers mean the same speaker in all states. The last row, for unknown phones, is the mean of the others.
    """
    values, axes = np.linalg.eigh(people.covariance)
    root = (axes * np.sqrt(np.maximum(values, 0))[:, None]) @ axes.transpose(0, 2, 1)
    root[PARTS * PHONES.index("sil") :] *= _OF_SILENCE
    root[:, :, 0] *= _OF_LOUDNESS
    known = root @ curves()
    return np.concatenate([known, known.mean(0, keepdims=True)]).astype(np.float32)
