"""tools/speech/lip_gap.py: the read-out of lips, and what it says by chance, on series whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.contract import FloatArray, UInt8Array
from lipwright.face import Face
from tools.speech import lip_gap
from tools.speech.bootstrap import DoubleArray, interval


def read_out(inputs: FloatArray, gap: DoubleArray) -> DoubleArray:
    return lip_gap.ReadOut(inputs)(gap[:, None])[:, 0]


def test_folds_test_every_frame_once_a_second_from_training() -> None:
    tested = []
    for train, test in lip_gap.folds(np.arange(250)):
        assert np.abs(train[:, None] - test).min() > lip_gap.GAP
        tested += list(test)
    assert tested == list(range(250))


def linear_world(frames: int, noise: float) -> tuple[FloatArray, DoubleArray]:
    """Inputs [n, 40] and a lip gap that is a linear function of them and of noise."""
    rng = np.random.default_rng(0)
    smooth = np.stack([np.convolve(rng.standard_normal(frames + 4), np.ones(5), "valid") for _ in range(5)], 1)
    inputs = smooth @ rng.standard_normal((5, 40)) + 0.1 * rng.standard_normal((frames, 40))
    gap = smooth[:, 0] / smooth[:, 0].std() + noise * rng.standard_normal(frames)
    return inputs.astype(np.float32), gap


def test_a_linear_lip_gap_is_read_out() -> None:
    inputs, gap = linear_world(250, 0.1)
    gap[100:110] = np.nan
    r = lip_gap.correlations(read_out(inputs, gap), gap)
    assert r[0] > 0.95
    low, high = interval(r[1:])
    assert low < r[0] < high


def test_within_parts_a_level_that_wanders_does_not_count() -> None:
    gap = np.random.default_rng(0).standard_normal(250)
    level = np.repeat([3.0, -5, 8, 0, -6], 50)
    assert lip_gap.correlations(lip_gap.within_parts(gap + level), lip_gap.within_parts(gap))[0] == pytest.approx(1)
    assert lip_gap.correlations(gap + level, gap)[0] < 0.4


def test_noise_is_not_read_out() -> None:
    inputs, _ = linear_world(500, 0)
    gap = np.random.default_rng(9).standard_normal(500)
    assert abs(lip_gap.correlations(read_out(inputs, gap), gap)[0]) < 0.2


def test_more_noise_wants_a_larger_penalty() -> None:
    x, clean = linear_world(60, 0)
    noisy = np.random.default_rng(2).standard_normal(60)
    wide = x.astype(np.float64)
    clean_penalty, noisy_penalty = lip_gap.best_penalties(wide, np.stack([clean, noisy], 1), np.arange(60))
    assert noisy_penalty > clean_penalty


def test_r_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    gap = rng.standard_normal(300)
    said = gap + rng.standard_normal(300)
    known = rng.random(300) < 0.8
    r = lip_gap.correlations(said, np.where(known, gap, np.nan))
    assert r[0] == pytest.approx(np.corrcoef(said[known], gap[known])[0, 1])


def posed_film(related: bool) -> tuple[dict[str, FloatArray], lip_gap.Lips]:
    """20 s of a mouth whose posture wanders and jumps at two cuts, with inputs that hear how it moves or do not."""
    frames, cuts = 500, (190, 300)
    rng = np.random.default_rng(4)
    said, unsaid = (np.convolve(rng.standard_normal(frames + 4), np.ones(5) / 5**0.5, "valid") for _ in range(2))
    posture = np.cumsum(rng.standard_normal(frames)) * 0.15 + np.repeat([0.0, 4.0, -2.0], [190, 110, 200])
    heard = np.stack([said, *(rng.standard_normal(frames) for _ in range(7))], 1)
    deaf = rng.standard_normal((frames, 8))
    lips = lip_gap.Lips((said if related else unsaid) + posture, cuts)
    return {"features": heard.astype(np.float32), "log-mel": deaf.astype(np.float32)}, lips


def test_what_is_unrelated_is_seen_to_be() -> None:
    inputs, lips = posed_film(related=False)
    found = lip_gap.figures(inputs, lips)
    for name, figure in found.items():
        assert abs(figure["r"] - figure["null"]) < 3 * figure["null_spread"], name
    for kind in inputs:
        assert found[kind]["null"] < -0.1  # what posture alone does to r over a whole film
        assert abs(found[f"{kind}, drift removed"]["r"]) < 0.2
        assert abs(found[f"{kind}, drift removed"]["null"]) < min(0.1, -found[kind]["null"] / 2)


def test_what_is_related_is_far_from_chance() -> None:
    inputs, lips = posed_film(related=True)
    figure = lip_gap.figures(inputs, lips)["features, drift removed"]
    assert figure["r"] > 0.7
    assert figure["r"] > figure["null"] + 6 * figure["null_spread"]
    difference = lip_gap.figures(inputs, lips)["difference, drift removed"]
    assert difference["low"] > 0.4


def test_drift_is_a_mean_of_three_seconds_that_stops_at_a_cut() -> None:
    quick = np.tile([1.0, -1.0], 150)
    posed = quick + np.repeat([5.0, -3.0], [180, 120]) + 0.01 * np.arange(300)
    posed[40:44] = np.nan
    still = lip_gap.Lips(posed, (180,)).without_drift()
    assert np.isnan(still[40:44]).all()
    inside = np.r_[90:140, 218:262]
    np.testing.assert_allclose(still[inside], quick[inside], atol=0.02)
    known = np.isfinite(still)
    assert np.abs(still - quick)[known].max() < 0.25  # at the ends of a scene the mean is of one side
    whole = lip_gap.Lips(posed, ()).without_drift()
    assert np.abs(whole - quick)[170:190].max() > 2


def test_shifts_are_of_two_seconds_or_more_either_way() -> None:
    for frames in (125, 250, 3000):
        shifts = lip_gap.unrelated(frames)
        assert shifts[0] == lip_gap.LEAST_SHIFT
        assert shifts[-1] == frames - lip_gap.LEAST_SHIFT
        assert 20 < len(set(shifts)) <= lip_gap.SHIFTS


def test_the_penalty_is_chosen_a_second_away_from_what_it_is_tried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    true_ridge = lip_gap.ridge
    x = np.arange(200.0)[:, None]

    def remember(inputs: DoubleArray, y: DoubleArray, penalty: float) -> object:
        predict = true_ridge(inputs, y, penalty)

        def on(new: DoubleArray) -> DoubleArray:
            tried.append(np.abs(inputs - new.T).min())
            return predict(new)

        return on

    monkeypatch.setattr(lip_gap, "ridge", remember)
    lip_gap.best_penalties(x, x, np.r_[0:60, 110:200])
    assert len(tried) == lip_gap.INNER_FOLDS * len(lip_gap.PENALTIES)
    assert min(tried) > lip_gap.GAP


def test_series_with_other_gaps_are_read_each_by_itself() -> None:
    inputs, gap = linear_world(250, 0.5)
    holed = gap.copy()
    holed[20:60] = np.nan
    together = lip_gap.ReadOut(inputs)(np.stack([gap, holed], 1))
    np.testing.assert_allclose(together[:, 0], read_out(inputs, gap))
    np.testing.assert_allclose(together[:, 1], read_out(inputs, holed))


def test_lips_are_watched_with_the_cuts_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tracker:
        def __init__(self, finder: object) -> None: ...

        def follow(self, picture: UInt8Array) -> Face | None:
            marks = np.random.default_rng(0).random((468, 3)).astype(np.float32) * 100
            return None if picture[0, 0, 1] else Face(marks, 1.0)

    monkeypatch.setattr(lip_gap, "FaceTracker", Tracker)
    monkeypatch.setattr(lip_gap, "FaceFinder", lambda: None)
    pictures = [np.full((36, 64, 3), 20 if k < 12 else 200, np.uint8) for k in range(24)]
    for k, picture in enumerate(pictures):
        picture[..., 1] = k == 5
    lips = lip_gap.watched(pictures)
    assert np.flatnonzero(np.isnan(lips.gap)).tolist() == [5]
    assert lips.cuts == (12,)
    assert lips.first(12).cuts == ()
