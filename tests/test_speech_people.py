"""tools/speech/people: what the acoustic model knows of people's phones, and what it makes of a machine's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lipwright.audio.mel import band_edges
from lipwright.contract import N_MELS
from lipwright.errors import LipwrightError
from tools.speech import people
from tools.speech.people import CEPSTRA, PARTS, PHONES, STATES, UNKNOWN, People, curves, read_people, scatter, shifts
from tools.speech.phones import Phone, Shape

MODEL_FILES = ("mdef", "means", "variances", "sendump")
HZ = band_edges()[1:-1]


@pytest.fixture(scope="module")
def everybody() -> People:
    return read_people()


def middle(phone: str) -> int:
    return PARTS * PHONES.index(phone) + 1


def spectrum(of: People, phone: str) -> np.ndarray:
    """[80] mean mel of the middle of a phone, about that of speech."""
    return np.asarray(of.mean[middle(phone)] @ curves())


# --- the model --------------------------------------------------------------------------------------------------------
def test_phones_sound_as_phonetics_says(everybody: People) -> None:
    low, high = (HZ > 200) & (HZ < 1000), HZ > 3500
    tilt = {phone: spectrum(everybody, phone)[high].mean() - spectrum(everybody, phone)[low].mean() for phone in PHONES}
    assert min(tilt[hiss] for hiss in ("s", "sh", "z", "ch")) > max(tilt[v] for v in ("aa", "ow", "uw", "m", "l")) + 1
    # The first formant of "ee" lies near 300 Hz, that of "ah" near 750; the second near 2300 and 1100.
    first, between = (HZ > 600) & (HZ < 1200), (HZ > 1900) & (HZ < 2700)
    iy, aa = spectrum(everybody, "iy"), spectrum(everybody, "aa")
    assert (iy - aa)[between].mean() > (iy - aa)[first].mean() + 1
    assert spectrum(everybody, "sil").mean() < spectrum(everybody, "aa").mean() - 1


def test_people_scatter_in_every_direction(everybody: People) -> None:
    assert everybody.mean.shape == (STATES, CEPSTRA) and everybody.covariance.shape == (STATES, CEPSTRA, CEPSTRA)
    assert np.linalg.eigvalsh(everybody.covariance).min() > 1


def test_a_mixture_has_the_moments_of_its_samples() -> None:
    rng = np.random.default_rng(0)
    weights, means, variances = np.array([1.0, 3.0]), rng.normal(0, 2, (2, CEPSTRA)), rng.uniform(0.5, 2, (2, CEPSTRA))
    mean, covariance = people._moments(weights, means, variances)
    which = rng.choice(2, 400_000, p=weights / 4)
    drawn = means[which] + rng.standard_normal((len(which), CEPSTRA)) * np.sqrt(variances[which])
    np.testing.assert_allclose(mean, drawn.mean(0), atol=0.03)
    np.testing.assert_allclose(covariance, np.cov(drawn.T), atol=0.06)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_first_stream_is_read_in_either_order_of_bytes(tmp_path: Path, order: str) -> None:
    own, others = np.arange(2 * 4 * 3).reshape(2, 4, 3), np.full((2, 4 * 5), -1)
    values = np.concatenate([own.reshape(2, -1), others], axis=1)
    numbers = np.array([0x11223344, 2, 2, 4, 3, 5, values.size], f"{order}u4").tobytes()
    path = tmp_path / "means"
    path.write_bytes(b"s3\nversion 1.0\nendhdr\n" + numbers + values.astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(people._gaussians(path), own)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    from pocketsphinx import get_model_path

    for name in MODEL_FILES:
        (tmp_path / name).write_bytes(Path(get_model_path("en-us/en-us"), name).read_bytes())
    one_codebook = np.array([0x11223344, 1, 1, 2, CEPSTRA, 2 * CEPSTRA], "<u4").tobytes()
    for name in ("means", "variances"):
        (tmp_path / name).write_bytes(b"s3\nendhdr\n" + one_codebook + bytes(8 * CEPSTRA))
    with pytest.raises(LipwrightError, match="no codebook of 13 cepstra a phone: take pocketsphinx 5's en-us"):
        read_people(tmp_path)


# --- the front end's cepstra and our mel ------------------------------------------------------------------------------
def test_cepstra_of_a_smooth_spectrum_draw_it_again() -> None:
    def level(hz: np.ndarray) -> np.ndarray:
        return 2 * np.cos(2 * np.pi * 2595 * np.log10(1 + hz / 700) / 2840)  # natural logarithm of power

    ends = 2595 * np.log10(1 + np.array([130, 6800]) / 700)
    theirs = 700 * (10 ** (np.linspace(ends[0], ends[1], 27)[1:-1] / 2595) - 1)
    order, at = np.arange(CEPSTRA)[:, None], np.arange(25)
    cosines = np.sqrt(np.where(order == 0, 1, 2) / 25) * np.cos(np.pi * order * (at + 0.5) / 25)
    lifted = (1 + 11 * np.sin(np.pi * np.arange(CEPSTRA) / 22)) * (cosines @ level(theirs))
    inside = (HZ > 250) & (HZ < 5500)
    decibel = 10 / np.log(10) * level(HZ)
    np.testing.assert_allclose((lifted @ curves())[inside], decibel[inside] * 0.08, atol=0.05)


# --- a machine's phones -----------------------------------------------------------------------------------------------
def phone(symbol: str, start: float, end: float) -> Phone:
    return Phone(symbol, start, end, (Shape("sil"),))


def test_a_phone_has_three_parts_and_only_cmu_is_known() -> None:
    said = [phone("pau", 0, 0.3), phone("ax", 0.3, 0.6), phone("ch", 0.6, 0.9)]
    found = people.states("flite:awb", said, 80)
    parts = [PARTS * PHONES.index(name) + part for name in ("sil", "ah", "ch") for part in range(PARTS)]
    assert [k for k, before in zip(found, [-1, *found], strict=False) if k != before][:-1] == [UNKNOWN, *parts]
    at = found.tolist()
    assert {at.count(k) for k in parts} <= {7, 8, 9}  # 0.1 s
    assert (people.states("espeak:m1", said, 80) == UNKNOWN).all()
    assert (people.states("festival:czech_dita", said, 80) == UNKNOWN).all()


def machine(state: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """[columns, 80] mel of a voice that says each state the same way each time."""
    return np.asarray(offset[state] @ curves(), dtype=np.float16)


def test_a_voice_moves_to_where_people_have_its_phones_and_no_further(everybody: People) -> None:
    rng = np.random.default_rng(1)
    own = everybody.mean + rng.normal(0, 6, everybody.mean.shape)
    own[:, 0] = everybody.mean[:, 0]
    state = np.tile(np.arange(STATES, dtype=np.int16), 400)
    mel = machine(state, own)
    utterance, voice = np.zeros(len(state), np.int64), np.array([1], np.int16)
    moved = shifts(everybody, mel, state, utterance, voice)
    assert moved.shape == (2, STATES + 1, N_MELS)
    assert not moved[0].any() and not moved[1, UNKNOWN].any()
    speech = np.arange(PARTS * PHONES.index("sil"))
    there, here = everybody.mean[speech] @ curves(), own[speech] @ curves()
    there, here = there - there.mean(0), here - here.mean(0)
    left = np.abs(here + moved[1, speech] - there).mean() / np.abs(here - there).mean()
    assert 0.1 < left < 0.2  # 400 columns a state count 0.87
    assert not moved[1, middle("sil")].any()


def test_what_a_voice_hardly_says_is_left_where_it_is(everybody: People) -> None:
    state = np.concatenate([np.repeat(np.arange(6, dtype=np.int16), 200), np.full(20, 9, np.int16)])
    mel = machine(state, np.random.default_rng(2).normal(0, 9, (STATES, CEPSTRA)))
    moved = shifts(everybody, mel, state, np.zeros(len(state), np.int64), np.zeros(1, np.int16))
    assert np.abs(moved[0, :6]).max() > 0.1 and not moved[0, 9].any()


def test_slices_scatter_as_people_do(everybody: People) -> None:
    by = scatter(everybody).astype(np.float64)
    assert by.shape == (STATES + 1, CEPSTRA, N_MELS)
    drawn = np.random.default_rng(3).standard_normal((20_000, CEPSTRA)) @ by[middle("iy")]
    wanted = everybody.covariance[middle("iy")].copy()
    wanted[0] *= 0.5  # of loudness
    wanted[:, 0] *= 0.5
    spread = np.sqrt(np.diag(curves().T @ wanted @ curves()))
    np.testing.assert_allclose(drawn.std(0), spread, rtol=0.05)
    np.testing.assert_allclose(by[UNKNOWN], by[:STATES].mean(0), atol=1e-5)
