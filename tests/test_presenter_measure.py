"""The rule by which the presenter's look-ahead is chosen, and its table."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.contract import AVE, CENTRED
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
