"""Greedy suppression as a fixed point equals going through the rows one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flat_bug.suppression import keep_best


def one_by_one(count: int, pairs: set[tuple[int, int]]) -> list[bool]:
    kept: list[bool] = []
    for row in range(count):
        kept.append(not any(kept[better] for better in range(row) if (better, row) in pairs))
    return kept


@given(
    count=st.integers(0, 12),
    pairs=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).map(sorted).map(tuple), max_size=40),
)
def test_equals_a_loop(count: int, pairs: set[tuple[int, int]]) -> None:
    valid = {(better, worse) for better, worse in pairs if better < worse < count}
    better, worse = np.array(sorted(valid), np.int64).reshape(-1, 2).T
    assert keep_best(count, better, worse).tolist() == one_by_one(count, valid)


def test_a_long_chain_keeps_every_other_row() -> None:
    rows = np.arange(999)
    assert keep_best(1000, rows, rows + 1).tolist() == [True, False] * 500
