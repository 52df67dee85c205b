"""The rule by which the presenter's look-ahead is chosen, and its table."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lipwright import patch
from lipwright.contract import AVE, CENTRED, Rect, UInt8Array
from tools.presenter.grain import CHIN, Likeness, finished, part, table
from tools.presenter.measure import chosen_lookahead, keeps, lookahead_table


def figures(lmd: float, recall: float) -> dict[str, float]:
    return {"lmd": lmd, "closed_recall": recall, "closed_precision": 0.9, "lip_gap_r": 0.8}


FULL = figures(0.0100, 0.90)


@pytest.mark.parametrize(
    ("lmd", "recall", "kept"),
    [
        (0.0100, 0.90, True),
        (0.0102, 0.88, True),
        (0.0090, 0.99, True),
        (0.0104, 0.90, False),
        (0.0100, 0.87, False),
        (np.nan, 0.90, False),
        (0.0100, np.nan, False),
    ],
)
def test_three_percent_are_allowed_and_better_is_always_fine(lmd: float, recall: float, kept: bool) -> None:
    assert keeps(figures(lmd, recall), FULL) is kept


def test_the_lowest_that_keeps_both_figures_in_both_tasks_is_chosen() -> None:
    one = {0: figures(0.02, 0.9), 2: figures(0.0101, 0.9), 3: figures(0.0101, 0.9), 7: FULL}
    two = {0: FULL, 2: figures(0.01, 0.5), 3: FULL, 7: FULL}
    assert chosen_lookahead({"one": one}) == 2
    assert chosen_lookahead({"one": one, "two": two}) == 3
    assert chosen_lookahead({"one": {0: figures(0.02, 0.9), 7: FULL}}) == 7
    assert chosen_lookahead({"one": {7: figures(np.nan, np.nan)}}) == 7, "nothing was measured: the safe side"


def test_the_table_says_it_in_milliseconds() -> None:
    sweeps = {"paired": {7: FULL, 0: figures(0.02, 0.5)}}
    header, rule, first, last = lookahead_table(sweeps, CENTRED)
    assert header.count("|") == rule.count("|") == first.count("|") == last.count("|")
    assert first == "| paired | 0 | 132.5 | 0.0200 | 0.500 | 0.900 | 0.800 | no |"
    assert last == "| paired | 7 | 412.5 | 0.0100 | 0.900 | 0.900 | 0.800 | yes |"
    assert "| 452.5 |" in lookahead_table(sweeps, AVE)[3]


# --- how like the true chin is the redrawn one ----------------------------------------------------------------------
RECT = Rect(40, 30, 40 + 328, 30 + 328)


def skin() -> UInt8Array:
    grain = np.random.default_rng(1).normal(0, 5, (400, 420))
    level = 140 + 20 * np.sin(np.mgrid[0:400, 0:420].sum(axis=0) / 60)
    return np.asarray(np.clip(np.rint(level + grain), 0, 255)[..., None].repeat(3, axis=2), np.uint8)


def test_blended_skin_is_finer_than_pasted_and_a_picture_is_like_itself() -> None:
    frame, box = skin(), part(RECT, CHIN)
    assert box == Rect(40 + CHIN[0], 30 + CHIN[1], 40 + CHIN[2], 30 + CHIN[3])
    assert part(Rect(10, 10, 174, 174), CHIN) == Rect(55, 110, 129, 148), "half as large"
    smooth = np.asarray(cv2.GaussianBlur(frame, (0, 0), 3), np.uint8)
    ways = finished(frame, RECT, patch.roi(patch.crop(smooth, RECT, "auto")), "auto")
    pasted, blended = (Likeness.of(ways[way], frame, box) for way in ("pasted", "blended"))
    assert pasted.fine < 0.1 and blended.fine > 0.4
    assert blended.r > 0.7 and abs(pasted.r) < 0.2
    same = Likeness.of(frame, frame, box)
    assert same.fine == 1 and same.r == pytest.approx(1)


def test_the_table_of_likeness_has_medians() -> None:
    rows = [("pasted", "chin", Likeness(psnr, 0.5, 0.1)) for psnr in (20.0, 30.0, 90.0)]
    assert list(table(rows))[2:] == ["| chin | pasted | 30.00 | 0.50 | 0.10 |"]
